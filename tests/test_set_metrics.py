"""FID and KID against their definitions and the reference implementation."""
import sys

import numpy as np
import pytest
import torch
from drawing import noise

from diffrwkvir_arch.metrics import set_metrics
from diffrwkvir_arch.metrics.set_metrics import InceptionDistances, frechet_distance, kernel_distance


@pytest.mark.parametrize('count', [5, 40])
def test_frechet_distance_is_that_of_the_gaussians_for_few_and_many_images(count):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(count, 8)), random.normal(size=(count, 8)) @ random.normal(size=(8, 8)) + 1
    s1, s2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    cross = np.sqrt(np.linalg.eigvals(s1 @ s2).astype(complex)).real.sum()
    expected = np.sum((x.mean(0) - y.mean(0))**2) + np.trace(s1) + np.trace(s2) - 2 * cross
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-5)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)


def test_kernel_distance_is_unbiased_and_its_subsets_come_near_the_whole():
    # (x y + 1)^3: 1 and 1 within the first set, 27 and 27 within the second, 1, 1, 8 and 27 between them.
    assert kernel_distance(np.array([[0.], [1.]]), np.array([[1.], [2.]])) == pytest.approx(1 + 27 - 2 * 37 / 4)
    random = np.random.default_rng(0)
    x, y = random.normal(size=(300, 4)), random.normal(size=(300, 4)) + 1
    subsets = kernel_distance(x, y, size=100)
    assert subsets == kernel_distance(x, y, size=100) == pytest.approx(kernel_distance(x, y), rel=0.1)
    assert subsets != kernel_distance(x, y)


def test_a_set_is_scored_in_rgb_whatever_layout_its_images_come_in(monkeypatch):
    # In the place of Inception's features: the mean colour, weighted because FID cannot tell an order of features.
    network, weights = torch.nn.Module(), torch.tensor([1., 2., 3.])
    network.forward = lambda images: (images.type(torch.uint8).float().mean(dim=(2, 3)) * weights, )
    monkeypatch.setattr(set_metrics, 'build_inception', lambda weights: network)
    sets = noise(4, 6, 8, 3), noise(4, 6, 8, 3, seed=1)
    for pictures in sets:
        pictures[3] = pictures[3][..., :1]
    distances = InceptionDistances()
    for layout in (lambda image: image[0], lambda image: image[1].astype(float), lambda image: image[2],
                   lambda image: image[3][..., 0]):
        distances.update(*map(layout, sets))
    with pytest.raises(ValueError, match='at least two images.* got 0'):
        InceptionDistances().compute()
    with pytest.warns(UserWarning, match='FID of 4 images'):
        scores = distances.compute()
    rgb = [pictures[..., ::-1].mean(axis=(1, 2)) * weights.numpy() for pictures in sets]
    assert scores == {'fid': pytest.approx(frechet_distance(*rgb), rel=1e-4),
                      'kid': pytest.approx(kernel_distance(*rgb), rel=1e-4)}


def test_a_set_is_scored_on_rounded_images(monkeypatch):
    network, seen = torch.nn.Module(), []
    network.forward = lambda images: (seen.append(images) or torch.zeros(len(images), 2), )
    monkeypatch.setattr(set_metrics, 'build_inception', lambda weights: network)
    image = np.array([[-0.4, 0.6], [254.4, 255.3]])
    InceptionDistances().update(image, image)
    assert seen[0].dtype == torch.uint8 and seen[0][:, 0].tolist() == 2 * [[[0, 1], [254, 255]]]


def test_without_torch_fidelity_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, 'torch_fidelity', None)
    with pytest.raises(ValueError, match=r'diffrwkvir\[metrics\]'):
        InceptionDistances()


def test_fid_and_kid_are_those_of_torch_fidelity(tmp_path, monkeypatch):
    fidelity = pytest.importorskip('torch_fidelity')
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    with pytest.raises(ValueError, match='weights-inception-2015-12-05-6726825d.pth is missing: download https://'):
        InceptionDistances()
    file = tmp_path / 'inception.pth'
    torch.save({}, file)
    with pytest.raises(ValueError, match='does not hold the weights'):
        InceptionDistances(weights=str(file))
    with monkeypatch.context() as patch:
        patch.setattr(fidelity.FeatureExtractorInceptionV3, 'load_state_dict', lambda self, state: None)
        network = fidelity.FeatureExtractorInceptionV3('random', ['2048'], str(file))
    for parameter in network.parameters():
        # As they come, they are so small that nothing of the image reaches the features.
        if parameter.dim() == 4:
            torch.nn.init.kaiming_normal_(parameter)
    torch.save(network.state_dict(), file)
    sets = noise(6, 20, 24, 3), noise(6, 20, 24, 3, seed=1) // 2
    distances = InceptionDistances(weights=str(file), device='cpu')
    for pair in zip(*sets):
        distances.update(*pair)
    with pytest.warns(UserWarning, match='6 images'):
        scores = distances.compute()
    features = [network(torch.from_numpy(each[..., ::-1].transpose(0, 3, 1, 2).copy()))[0].double() for each in sets]
    fid = fid_statistics_to_metric(*map(fid_features_to_statistics, features), verbose=False)
    kid = kid_features_to_metric(*features, kid_subset_size=6, kid_subsets=1, verbose=False)
    assert scores['fid'] == pytest.approx(fid['frechet_inception_distance'], rel=1e-5) and scores['fid'] > 0.1
    assert scores['kid'] == pytest.approx(kid['kernel_inception_distance_mean'], rel=1e-5)
