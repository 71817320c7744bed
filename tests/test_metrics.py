"""Metrics against independent implementations and on images that break others (tiny, flat, grey)."""
import math
from types import SimpleNamespace

import cv2
import lpips
import numpy as np
import pytest
import torch
import torchvision
from backbones import TORCHVISION, save_backbone
from basicsr.metrics import calculate_metric, calculate_niqe, calculate_psnr, calculate_ssim
from drawing import noise
from skimage.metrics import structural_similarity

from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.lpips_network import BACKBONES, build_lpips
from diffrwkvir_arch.metrics.lpips_metric import network_on
from diffrwkvir_arch.metrics.protocols import protocol_metrics
from diffrwkvir_arch.option_sections import check_metric
from diffrwkvir_arch.toolbox.images import needs_gt

WITH_GT = ('rmse', 'sam', 'lpips', 'hole_psnr', 'hole_ssim')


GREY = noise(40, 40)


def measure(name, img, img2=None, mask=None, **options):
    """As BasicSR's validation calls a metric: by its type, with all the data that the model has."""
    data = {key: value for key, value in (('img', img), ('img2', img2), ('mask', mask)) if value is not None}
    return calculate_metric(data, {'type': f'calculate_{name}', 'crop_border': 0, 'better': 'lower', **options})


@pytest.fixture(scope='module')
def backbones(tmp_path_factory):
    """Random weights of every backbone; net -> path."""
    folder = tmp_path_factory.mktemp('backbones')
    return {net: save_backbone(net, folder / f'{net}.pth') for net in TORCHVISION}


@pytest.mark.parametrize('name', [*WITH_GT, 'niqe'])
def test_an_option_file_names_the_metric_and_a_misspelt_option_is_refused(name, backbones):
    options = {'type': f'calculate_{name}', 'crop_border': 4, 'better': 'lower'}
    options |= {'weights': backbones['alex']} if name == 'lpips' else {}
    check_metric('val.metrics.m', options, pytest.fail)
    with pytest.raises(ValueError, match='crop_boarder'):
        check_metric('val.metrics.m', {**options, 'crop_boarder': 4}, pytest.fail)
    with pytest.raises(ValueError, match="crop_boarder.*did you mean 'crop_border'"):
        measure(name, noise(8, 8), noise(8, 8), crop_boarder=4)
    assert needs_gt(options['type']) == (name != 'niqe')


@pytest.mark.parametrize('kind, better', [('rmse', 'lower'), ('niqe', 'lower'), ('psnr', 'higher'),
                                          ('hole_ssim', 'higher')])
def test_an_option_file_need_not_say_which_way_a_known_metric_is_better(kind, better):
    section = {'type': f'calculate_{kind}', 'crop_border': 0}
    check_metric('val.metrics.m', section, pytest.fail)
    assert section['better'] == better
    section['better'] = 'higher'
    check_metric('val.metrics.m', section, pytest.fail)
    assert section['better'] == 'higher'


@pytest.mark.parametrize('name', WITH_GT)
@pytest.mark.parametrize('img, img2, options, message', [
    (noise(40, 40, 3), noise(40, 41, 3), {}, 'differ in shape'), (noise(40, 40, 3), GREY, {}, 'differ in shape'),
    (noise(3, 40, 40), noise(3, 40, 40), {}, 'input_order'),
    (noise(1, 40, 40, 3), noise(1, 40, 40, 3), {}, '1 or 3 channels'), (torch.zeros(40, 40), GREY, {}, 'Tensor'),
    (GREY.astype(np.uint16), GREY, {}, 'uint16'), (GREY, GREY, {'input_order': 'WHC'}, 'input_order'),
    (GREY, GREY, {'crop_border': -1}, 'crop_border'), (GREY, GREY, {'crop_border': 0.5}, 'crop_border'),
])
def test_what_is_no_pair_of_images_is_refused_with_the_reason(name, img, img2, options, message):
    with pytest.raises(ValueError, match=message):
        measure(name, img, img2, mask=np.ones((40, 40)), **options)


@pytest.mark.parametrize('channels', [2, 4, 8])
def test_images_of_other_channels_have_the_scores_that_do_not_look_at_colours(channels):
    a, b = noise(40, 42, channels), noise(40, 42, channels, seed=1)
    difference = a.astype(float) - b
    assert measure('rmse', a, b) == pytest.approx(np.sqrt((difference**2).mean()))
    assert measure('hole_psnr', a, b, mask=np.ones((40, 42))) == pytest.approx(
        20 * np.log10(255) - 10 * np.log10((difference**2).mean()))
    assert measure('hole_ssim', a, a, mask=np.ones((40, 42))) == pytest.approx(1)
    cosine = (a * b.astype(float)).sum(2) / np.linalg.norm(a, axis=2) / np.linalg.norm(b, axis=2)
    assert measure('sam', a, b) == pytest.approx(np.degrees(np.arccos(cosine)).mean(), rel=1e-4)
    assert measure('rmse', a.transpose(2, 0, 1), b.transpose(2, 0, 1), input_order='CHW') == measure('rmse', a, b)


@pytest.mark.parametrize('name', ['lpips', 'niqe'])
def test_scores_that_look_at_colours_refuse_other_channels(name):
    with pytest.raises(InputError, match=r'1 or 3 channels, got shape \(40, 40, 8\)'):
        measure(name, noise(40, 40, 8), noise(40, 40, 8))


@pytest.mark.parametrize('name', [*WITH_GT, 'niqe'])
@pytest.mark.parametrize('shape', [(4, 4), (4, 4, 1), (4, 40, 3)])
def test_an_image_without_pixels_inside_the_border_gives_nan_and_a_warning(name, shape):
    with pytest.warns(UserWarning, match=f'calculate_{name} is nan: img of 4x'):
        assert math.isnan(measure(name, noise(*shape), noise(*shape), mask=np.ones(shape[:2]), crop_border=2))


@pytest.mark.parametrize('name, options', [('rmse', {}), ('rmse', {'test_y_channel': True}), ('sam', {}), ('lpips', {}),
                                           ('hole_psnr', {}), ('hole_ssim', {'test_y_channel': True})])
def test_channels_first_and_a_border_change_nothing_but_the_layout(name, options, backbones):
    a, b, mask = noise(44, 60, 3), noise(44, 60, 3, seed=1), noise(44, 60, seed=2) > 100
    options = {'weights': backbones['alex']} if name == 'lpips' else options
    expected = measure(name, a[3:-3, 3:-3], b[3:-3, 3:-3], mask[3:-3, 3:-3], **options)
    chw = a.transpose(2, 0, 1), b.transpose(2, 0, 1)
    got = measure(name, *chw, mask, crop_border=3, input_order='CHW', **options)
    assert got == pytest.approx(expected, rel=1e-5) and expected > 0


@pytest.mark.parametrize('order, axis', [('HWC', 2), ('CHW', 0)])
@pytest.mark.parametrize('name', WITH_GT)
def test_grey_images_come_without_a_channel_axis_or_with_one_or_three_channels(name, order, axis, backbones):
    a, b, mask = noise(36, 48), noise(36, 48, seed=1), np.ones((36, 48))
    b[:5] = 0  # Without black, SAM of grey is 0.
    options = {'input_order': order} | ({'weights': backbones['alex']} if name == 'lpips' else {})
    expected = measure(name, a, b, mask, **options)
    for channels in (1, 3):
        pair = (np.stack([image] * channels, axis) for image in (a, b))
        # The convolutions of LPIPS round as the data lies in memory.
        assert measure(name, *pair, mask, **options) == pytest.approx(expected, rel=1e-5) and expected > 0


@pytest.mark.parametrize('options', [{}, {'test_y_channel': True}])
def test_rmse_is_the_error_whose_psnr_basicsr_reports(options):
    a, b = noise(20, 30, 3), noise(20, 30, 3, seed=1)
    psnr = 20 * math.log10(255 / measure('rmse', a, b, **options))
    assert psnr == pytest.approx(calculate_psnr(a, b, 0, **options), abs=1e-9)
    assert measure('rmse', a, a, **options) == 0
    # uint8 arithmetic would wrap around to 1.
    assert measure('rmse', np.zeros((1, 1), np.uint8), np.full((1, 1), 255, np.uint8)) == 255


def test_sam_is_the_mean_arccos_of_the_cosine_between_colours():
    a, b = noise(9, 7, 3) // 2 + 1, noise(9, 7, 3, seed=1) // 2 + 1
    angles = [math.acos(np.dot(u, v) / math.sqrt(np.dot(u, u) * np.dot(v, v)))
              for u, v in zip(a.reshape(-1, 3).astype(float), b.reshape(-1, 3).astype(float))]
    assert measure('sam', a, b, unit='radians') == pytest.approx(np.mean(angles), rel=1e-12)


@pytest.mark.parametrize('colour, colour2, degrees', [
    ((10, 20, 30), (20, 40, 60), 0), ((0, 0, 0), (0, 0, 0), 0), ((0, 0, 0), (1, 2, 3), 90),
    ((255, 0, 0), (0, 0, 255), 90), ((255, 0, 0), (255, 255, 0), 45),
    # An angle that arccos would round to 0.
    ((1, 0, 0), (1, 1e-9, 0), math.degrees(1e-9)),
])
@pytest.mark.parametrize('shape', [(1, 1), (4, 4)])
def test_sam_of_constant_images_is_the_angle_between_their_colours(colour, colour2, degrees, shape):
    a, b = (np.full((*shape, 3), value, float) for value in (colour, colour2))
    assert measure('sam', a, b) == pytest.approx(degrees, rel=1e-6, abs=1e-13)
    assert measure('sam', a, a) == 0


@pytest.mark.parametrize('net', TORCHVISION)
def test_lpips_is_what_the_package_computes_from_rgb_with_a_network_that_is_built_once(net, backbones, monkeypatch):
    features = getattr(torchvision.models, TORCHVISION[net])(weights=None).features
    features.load_state_dict({key[len('features.'):]: value for key, value in torch.load(backbones[net]).items()})
    # The package's own way to its backbone, with the file in the place of the download.
    monkeypatch.setattr(lpips.pn.tv, TORCHVISION[net], lambda pretrained: SimpleNamespace(features=features))
    package = lpips.LPIPS(net=net, verbose=False)
    monkeypatch.undo()
    a, b = noise(40, 52, 3), noise(40, 52, 3, seed=1)
    rgb = [torch.tensor(image[..., ::-1].transpose(2, 0, 1)[None] / 127.5 - 1).float() for image in (a, b)]
    options, random_numbers = {'net': net, 'weights': backbones[net]}, torch.get_rng_state()
    network_on.cache_clear()
    assert measure('lpips', a, b, **options) == pytest.approx(package(*rgb).item(), rel=1e-5)
    assert measure('lpips', a, a, **options) == 0
    assert network_on.cache_info().misses == 1
    # Training's own random numbers go on as if nothing had been measured.
    assert torch.equal(torch.get_rng_state(), random_numbers)


@pytest.mark.parametrize('net', BACKBONES)
def test_lpips_takes_every_size_that_its_backbone_can_and_says_so_of_smaller_ones(net, backbones):
    side, options = BACKBONES[net][1], {'net': net, 'weights': backbones[net]}
    assert measure('lpips', noise(side, side, 3), noise(side, side, 3, seed=1), **options) > 0
    with pytest.warns(UserWarning, match=f'{net} needs {side}'):
        assert math.isnan(measure('lpips', noise(side - 1, 90, 3), noise(side - 1, 90, 3), **options))
    with pytest.raises(RuntimeError, match='too small'):
        build_lpips(net, backbones[net])(*[torch.zeros(1, 3, side - 1, 90)] * 2)


def test_lpips_finds_its_backbone_in_torch_hubs_cache_or_says_what_to_put_there(backbones, monkeypatch, tmp_path):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    target = tmp_path / 'hub' / 'checkpoints' / 'squeezenet1_1-b8a52dc0.pth'
    with pytest.raises(ValueError, match=f"{target} is missing: download {BACKBONES['squeeze'][0]} and"):
        measure('lpips', GREY, GREY, net='squeeze')
    # Told of an option file too, before a training that would come to it hours later.
    options = {'type': 'calculate_lpips', 'crop_border': 0, 'net': 'squeeze'}
    with pytest.raises(ValueError, match=f'val.metrics.m: {target} is missing'):
        check_metric('val.metrics.m', options, pytest.fail)
    target.parent.mkdir(parents=True)
    target.symlink_to(backbones['squeeze'])
    check_metric('val.metrics.m', options, pytest.fail)
    with pytest.raises(ValueError, match='val.metrics.m.device cuda:99: PyTorch sees'):
        check_metric('val.metrics.m', {**options, 'device': 'cuda:99'}, pytest.fail)
    assert measure('lpips', GREY, GREY, net='squeeze') == 0


@pytest.mark.parametrize('content, message', [
    ('<html>not found</html>', 'damaged'), (torch.nn.ReLU(), 'damaged or not a file of weights'),
    ([1], 'not a state dict'), ({'features.0.weight': torch.zeros(1)}, 'net=alex'),
])
def test_a_file_that_is_not_the_backbones_weights_is_refused(content, message, tmp_path):
    file = tmp_path / 'file.pth'
    file.write_text(content) if isinstance(content, str) else torch.save(content, file)
    with pytest.raises(ValueError, match=message):
        measure('lpips', GREY, GREY, weights=str(file))


@pytest.mark.parametrize('shape, options', [((192, 100, 3), {}), ((100, 300, 3), {'convert_to': 'gray'}),
                                            ((210, 110, 3), {'crop_border': 4}), ((192, 192), {})])
def test_niqe_is_basicsrs_where_that_works(shape, options):
    img = cv2.GaussianBlur(noise(*shape), (0, 0), 1.5)
    expected = calculate_niqe(img, **{'crop_border': 0, **options})
    assert measure('niqe', img, **options) == expected
    chw = img.transpose(2, 0, 1) if img.ndim == 3 else img
    assert measure('niqe', chw, input_order='CHW', **options) == pytest.approx(expected, rel=1e-3)


@pytest.mark.filterwarnings('ignore::RuntimeWarning')
@pytest.mark.parametrize('img, reason', [(noise(1, 1), '1x1'), (noise(4, 4, 3), '4x4'), (noise(95, 400, 3), '95x400'),
                                         (noise(191, 191, 3), '191x191'), (np.zeros((192, 192, 3)), 'not flat'),
                                         (np.full((192, 192), 255, np.uint8), 'not flat')])
def test_niqe_of_a_small_or_flat_image_is_nan_where_basicsrs_crashes(img, reason):
    with pytest.raises((RuntimeError, IndexError, AssertionError, np.linalg.LinAlgError)):
        calculate_niqe(img, 0)
    with pytest.warns(UserWarning, match=reason) as caught:
        assert math.isnan(measure('niqe', img))
    assert len(caught) == 1


def test_niqe_takes_grey_images_that_basicsrs_cannot_convert():
    grey = cv2.GaussianBlur(noise(192, 192), (0, 0), 1.5)
    assert measure('niqe', grey[..., None], convert_to='gray') == measure('niqe', grey)


@pytest.mark.parametrize('name, options, message', [('niqe', {'convert_to': 'rgb'}, 'y or gray'),
                                                    ('sam', {'unit': 'rad'}, 'degrees or radians'),
                                                    ('lpips', {'net': 'vgg19'}, 'alex, vgg, squeeze'),
                                                    ('lpips', {'device': 'gpu'}, "device must be auto")])
def test_other_values_of_an_option_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        measure(name, noise(192, 192), noise(192, 192), **options)


@pytest.mark.parametrize('shape', [(30, 41, 3), (30, 41), (11, 11, 3)])
@pytest.mark.parametrize('options', [{}, {'test_y_channel': True}])
def test_in_a_hole_as_large_as_the_image_psnr_and_ssim_are_basicsrs(shape, options):
    a, b, mask = noise(*shape), noise(*shape, seed=1), np.ones(shape[:2], bool)
    assert measure('hole_psnr', a, b, mask, **options) == pytest.approx(calculate_psnr(a, b, 0, **options), rel=1e-12)
    assert measure('hole_ssim', a, b, mask, **options) == pytest.approx(calculate_ssim(a, b, 0, **options), rel=1e-9)
    assert measure('hole_psnr', a, a, mask, **options) == math.inf
    assert measure('hole_ssim', a, a, mask, **options) == pytest.approx(1)


def test_hole_ssim_averages_scikit_images_map_over_the_hole():
    a, b, mask = noise(32, 40, 3), noise(32, 40, 3, seed=1), noise(32, 40, seed=2) > 200
    full = structural_similarity(a, b, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
                                 data_range=255, full=True)[1]
    expected = full[5:-5, 5:-5][mask[5:-5, 5:-5]].mean()
    assert measure('hole_ssim', a, b, mask) == pytest.approx(expected, rel=1e-9)
    assert measure('hole_ssim', GREY * 0, GREY * 0, GREY * 0 + 1) == 1


def test_hole_psnr_sees_the_hole_alone():
    a, mask = noise(12, 12, 3) // 2, noise(12, 12, seed=1) > 200
    b = a + np.uint8(10) * mask[..., None]
    assert measure('hole_psnr', a, b, mask) == pytest.approx(20 * math.log10(25.5), rel=1e-12)
    assert measure('hole_psnr', a, b, ~mask) == math.inf
    assert measure('hole_psnr', a[:1, :1], a[:1, :1] + 10, np.ones((1, 1))) == measure('hole_psnr', a, b, mask)


@pytest.mark.parametrize('name, shape, mask', [('hole_psnr', (20, 20), np.zeros((20, 20))),
                                               ('hole_ssim', (20, 20), np.mgrid[:20, :20][0] < 5),
                                               ('hole_ssim', (4, 4), np.ones((4, 4))),
                                               ('hole_ssim', (1, 1, 3), np.ones((1, 1)))])
def test_without_a_hole_that_can_be_measured_the_score_is_nan(name, shape, mask):
    with pytest.warns(UserWarning, match='hole'):
        assert math.isnan(measure(name, noise(*shape), noise(*shape), mask))


@pytest.mark.parametrize('mask, message', [(None, 'no mask'), (np.ones((20, 21)), 'mask must be'),
                                           (np.ones((20, 20, 1)), 'mask must be'), (np.full((20, 20), 255), 'to 255')])
@pytest.mark.parametrize('name', ['hole_psnr', 'hole_ssim'])
def test_what_is_no_mask_of_the_image_is_refused(name, mask, message):
    with pytest.raises(ValueError, match=message):
        measure(name, noise(20, 20), noise(20, 20), mask)


@pytest.mark.parametrize('protocol, suffix, crop, luma', [('y_border', 'y', 4, True), ('rgb', 'rgb', 0, False)])
def test_a_protocol_is_a_metrics_section_that_basicsr_runs(protocol, suffix, crop, luma):
    a, b, metrics = noise(32, 32, 3), noise(32, 32, 3, seed=1), protocol_metrics(protocol, 4)
    assert list(metrics) == [f'psnr_{suffix}', f'ssim_{suffix}']
    for option, function in zip(metrics.values(), (calculate_psnr, calculate_ssim)):
        check_metric('val.metrics.m', option, pytest.fail)
        assert calculate_metric({'img': a, 'img2': b}, option) == function(a, b, crop, test_y_channel=luma)


def test_other_protocols_and_scales_are_refused():
    for protocol, scale, message in (('y_boarder', 4, "mean 'y_border'"), ('rgb', 0, 'scale'), ('rgb', 2.5, 'scale')):
        with pytest.raises(ValueError, match=message):
            protocol_metrics(protocol, scale)
