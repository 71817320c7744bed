"""LPIPS as a loss: its value is the metric's, its gradient the image's alone; weights are asked for in time."""
import urllib.error

import pytest
import torch
from backbones import save_backbone
from basicsr.losses import build_loss
from basicsr.losses.basic_loss import PerceptualLoss
from basicsr.metrics import calculate_metric

from diffrwkvir_arch import cli
from diffrwkvir_arch.errors import InputError


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """The smallest backbone, with random weights."""
    return save_backbone('squeeze', tmp_path_factory.mktemp('backbones') / 'squeeze.pth')


@pytest.fixture
def loss(weights):
    return build_loss({'type': 'LPIPSLoss', 'net': 'squeeze', 'loss_weight': 0.5, 'weights': weights})


def images(n=2, side=41):
    """Two batches of 8-bit RGB images as floats in [0, 1]."""
    torch.manual_seed(1)
    return tuple(torch.randint(0, 256, (n, 3, side, side)) / 255 for _ in range(2))


def test_the_loss_is_the_batch_mean_of_the_metric_times_its_weight(loss, weights):
    x, gt = images()
    bgr = [[(image.flip(0) * 255).permute(1, 2, 0).numpy() for image in batch] for batch in (x, gt)]
    options = {'type': 'calculate_lpips', 'crop_border': 0, 'net': 'squeeze', 'weights': weights}
    values = [calculate_metric({'img': a, 'img2': b}, dict(options)) for a, b in zip(*bgr)]
    value, style = loss(x, gt)
    assert value.item() == pytest.approx(0.5 * sum(values) / 2, rel=1e-5) and style is None
    assert loss(x, x)[0] == 0


def test_the_gradient_reaches_the_restored_image_and_nothing_else(loss):
    x, gt = images()
    x.requires_grad_()
    loss(x, gt)[0].backward()
    assert torch.isfinite(x.grad).all() and (x.grad != 0).any(1).all()
    assert not any(p.requires_grad for p in loss.parameters()) and not any(m.training for m in loss.network.modules())


def test_descending_the_loss_brings_an_image_nearer(loss):
    x, gt = images(1)
    start, x = loss(x, gt)[0], x.requires_grad_()
    optimizer = torch.optim.Adam([x], 0.02)
    for _ in range(10):
        optimizer.zero_grad()
        loss(x, gt)[0].backward()
        optimizer.step()
    assert loss(x, gt)[0] < 0.8 * start


def test_autocast_leaves_the_loss_in_float32(loss):
    x, gt = images()
    with torch.autocast('cpu', torch.bfloat16):
        value, _ = loss(x, gt)
    assert torch.equal(value, loss(x, gt)[0])


def test_patches_too_small_for_the_backbone_are_refused(loss):
    with pytest.raises(InputError, match='at least 17 pixels on each side, got 16x16: raise datasets.train.gt_size'):
        loss(*images(1, 16))


def restoration(options, **perceptual):
    """A training of RestorationModel with the loss as train.perceptual_opt."""
    options.update(model_type='RestorationModel')
    options['datasets']['train']['gt_size'] = 24
    options['train'] |= {'total_iter': 2, 'perceptual_opt': {'type': 'LPIPSLoss', 'net': 'squeeze', **perceptual}}
    return options


def test_any_network_trains_with_it_as_perceptual_opt(options, weights, write_options, workdir):
    path = write_options(restoration(options, loss_weight=0.1, weights=weights))
    assert cli.main(['train', '-opt', path]) == 0
    log = next((workdir / 'experiments/tiny').glob('train_*.log')).read_text()
    lines = [line for line in log.splitlines() if 'lr:(' in line]
    assert len(lines) == 2 and all('l_pix' in line and 'l_percep' in line for line in lines)


@pytest.mark.parametrize('perceptual, message', [
    ({}, 'train.perceptual_opt: {hub}/squeezenet1_1-b8a52dc0.pth is missing: download https://'),
    ({'weights': 'mine.pth'}, 'train.perceptual_opt: mine.pth is missing: download https://'),
    ({'net': 'vgg19'}, "train.perceptual_opt: net must be one of alex, vgg, squeeze, got 'vgg19'"),
    ({'net': None}, 'missing option: train.perceptual_opt.net'),
    ({'loss_wieght': 1}, "unknown option 'train.perceptual_opt.loss_wieght' (did you mean 'loss_weight'?)"),
])
def test_what_it_lacks_is_told_before_anything_is_written(options, write_options, workdir, monkeypatch, capsys,
                                                          perceptual, message):
    monkeypatch.setenv('TORCH_HOME', str(workdir / 'home'))
    opt = restoration(options, **perceptual)
    if perceptual == {'net': None}:
        del opt['train']['perceptual_opt']['net']
    assert cli.main(['train', '-opt', write_options(opt)]) == 2
    assert message.format(hub=workdir / 'home/hub/checkpoints') in capsys.readouterr().err
    assert not (workdir / 'experiments').exists()


def test_weights_of_vgg_are_there_before_anything_is_written(options, write_options, workdir, monkeypatch, capsys):
    monkeypatch.setenv('TORCH_HOME', str(workdir / 'home'))
    asked = []

    def no_network(url, place, hash_prefix):
        asked.append((url, place, hash_prefix))
        raise urllib.error.URLError('no route to host')

    monkeypatch.setattr(torch.hub, 'download_url_to_file', no_network)
    opt = restoration(options)
    opt['train']['perceptual_opt'] = {'type': 'PerceptualLoss', 'layer_weights': {'conv1_2': 1}}
    path = write_options(opt)
    assert cli.main(['train', '-opt', path]) == 2
    file = workdir / 'home/hub/checkpoints/vgg19-dcbb9e9d.pth'
    told = capsys.readouterr().err
    assert f'train.perceptual_opt: {file} is missing and could not be downloaded' in told and 'no route' in told
    assert asked == [(f'https://download.pytorch.org/models/{file.name}', str(file), 'dcbb9e9d')]
    assert not (workdir / 'experiments').exists()
    file.touch()
    PerceptualLoss.check_options('train.perceptual_opt', opt['train']['perceptual_opt'])
    assert len(asked) == 1
    for name, message in (('resnet50', 'must name a VGG'), ('vgg20', 'torchvision has no vgg20')):
        with pytest.raises(InputError, match=message):
            PerceptualLoss.check_options('train.perceptual_opt', {'vgg_type': name})
