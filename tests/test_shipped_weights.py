"""The weights that come with the package: what they are worth, how they are found, what they do not do."""
from pathlib import Path

import pytest
import torch
from basicsr.archs import build_network

from diffrwkvir_arch.bicubic import imresize_once_rounded
from diffrwkvir_arch.cli import main
from diffrwkvir_arch.option_checkpoints import SHIPPED_WEIGHTS, find_checkpoint
from diffrwkvir_arch.toolbox.checkpoints import read_checkpoint
from diffrwkvir_arch.toolbox.options import load_option_file
from diffrwkvir_arch.tools.demo import HELD_OUT, photograph
from diffrwkvir_arch.tools.networks import from_checkpoint
from diffrwkvir_arch.tools.preparation.pieces import write_png
from diffrwkvir_arch.tools.scores import read_image, score

OPTIONS = Path(__file__).parent.parent / 'options'


@pytest.fixture
def photos(workdir):
    """scale -> folder of LQs, of the middles of two photographs that training has not seen; and the GTs by name."""
    gts = {name: photograph(name)[36:276, 108:348] for name in HELD_OUT}

    def write(scale):
        folder = workdir / f'x{scale}'
        folder.mkdir()
        for name, gt in gts.items():
            write_png(folder / f'{name}.png', imresize_once_rounded(gt, 1 / scale))
        return folder

    return write, gts


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_without_a_method_photographs_come_out_sharper_than_bicubic_enlargement(photos, scale):
    write, gts = photos
    folder = write(scale)
    assert main(['restore', str(folder), '--scale', str(scale), '-o', 'out']) == 0
    for name, gt in gts.items():
        bicubic = imresize_once_rounded(read_image(folder / f'{name}.png'), scale)
        gain = score(read_image(f'out/{name}.png'), gt, scale)['psnr_y'] - score(bicubic, gt, scale)['psnr_y']
        assert gain > 0.5, name


def test_the_default_scale_is_four(photos):
    write, gts = photos
    assert main(['restore', str(write(4) / 'chelsea.png'), '-o', 'out']) == 0
    assert read_image('out/chelsea.png').shape == gts['chelsea'].shape


@pytest.mark.parametrize('arguments, told', [
    (['--scale', '8'], 'for --scale 8 come with the package, only some for --scale 2, 3, 4'),
    (['--masks', 'x4'], 'no weights that fill holes come with the package')])
def test_what_they_cannot_do_is_refused(photos, capsys, arguments, told):
    folder = photos[0](4)
    assert main(['restore', str(folder), *arguments]) == 2
    message = capsys.readouterr().err
    assert '-m is missing' in message and told in message


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_they_fit_the_network_of_their_option_file(scale):
    opt = load_option_file(OPTIONS / f'test_DiffRWKVIR-tiny_S2_x{scale}.yml')
    weights = read_checkpoint(find_checkpoint(opt['path']['pretrain_network_g']))
    build_network(opt['network_g']).load_state_dict(weights[opt['path']['param_key_g']])


def test_they_compute_what_they_computed_when_they_were_trained():
    y, x, colour = (torch.arange(size, dtype=torch.float64) for size in (18, 22, 3))
    lq = 0.5 + 0.4 * torch.sin(0.9 * y[:, None, None] + 0.2 * x[:, None]**1.5 + 2 * colour)
    lq = lq.permute(2, 0, 1)[None].float()
    net = from_checkpoint(find_checkpoint('DiffRWKVIR-tiny_x4.pth'))
    with torch.no_grad():
        pixels, prior = net(lq)[0, :, 9::36, 7::44], net.extract_prior(lq)[0, ::8]
    # In float64; float32 differs by less than 1e-5.
    golden = torch.tensor([0.85565, 0.1766, 0.24146, 0.36638, 0.19125, 0.4328, 0.3243, 0.89223, 0.39443, 0.87668,
                           0.89337, 0.31178])
    torch.testing.assert_close(pixels.flatten(), golden, atol=1e-4, rtol=0)
    golden = torch.tensor([-0.97959, 6.21447, 1.52304, 3.29774, -0.06012, -1.87944])
    torch.testing.assert_close(prior, golden, atol=1e-4, rtol=1e-4)


def test_their_name_alone_finds_them_unless_a_file_of_that_name_is_here(workdir):
    name = 'DiffRWKVIR-tiny_x4.pth'
    assert find_checkpoint(name) == str(SHIPPED_WEIGHTS / name)
    assert find_checkpoint(f'models/{name}') == f'models/{name}'
    (workdir / name).touch()
    assert find_checkpoint(name) == name
