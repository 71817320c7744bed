"""`basicsr restore`: what comes out for which file by which method, and what is refused."""
import argparse
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from basicsr.archs.edsr_arch import EDSR as EDSRNet
from basicsr.utils import img2tensor, tensor2img
from compare_cases import EDSR, INPAINTING, SCALE, build, write_method
from drawing import draw
from restore_cases import read

from diffrwkvir_arch.bicubic import imresize
from diffrwkvir_arch.cli import main
from diffrwkvir_arch.data.inpainting_dataset import FILL
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.tools import restore
from diffrwkvir_arch.tools.comparison import methods, recognition
from diffrwkvir_arch.tools.comparison.network import finished
from diffrwkvir_arch.tools.restoration.picture import Picture
from diffrwkvir_arch.tools.restoration.progress import Progress


def test_a_result_is_what_the_network_makes_of_the_image(mixed_photos, capsys):
    assert main(['restore', 'my photos', '-m', 'one.yml', '-o', 'an output']) == 0
    assert 'an output: 4 images restored' in capsys.readouterr().out
    with torch.no_grad():
        expected = build(EDSR, 1)(img2tensor(read(mixed_photos / 'colour.png').astype(np.float32) / 255)[None])
    assert np.array_equal(read('an output/colour.png'), tensor2img(expected))


def test_bfloat16_is_used_on_demand_and_near_float32(mixed_photos, monkeypatch):
    seen, called = [], EDSRNet.forward

    def watched(self, x):
        seen.append(torch.is_autocast_enabled('cpu') and torch.get_autocast_dtype('cpu'))
        return called(self, x)

    monkeypatch.setattr(EDSRNet, 'forward', watched)
    for out, more in {'single': [], 'half': ['--amp', 'bf16']}.items():
        assert main(['restore', str(mixed_photos / 'colour.png'), '-m', 'one.yml', '-o', out, *more]) == 0
    single, half = (read(f'{out}/colour.png').astype(int) for out in ('single', 'half'))
    assert seen == [False, torch.bfloat16] and 0 < np.abs(half - single).max() <= 4


def test_holes_are_filled_and_known_pixels_stay(mixed_photos, workdir):
    write_method(workdir, 'fill', INPAINTING, scale=1)
    (workdir / 'masks').mkdir()
    mask = np.zeros((20, 26), np.uint8)
    mask[5:12, 8:20] = 255
    for name in ('colour', 'deep'):
        cv2.imwrite(f'masks/{name}.png', mask)
    images = [str(mixed_photos / f'{name}.png') for name in ('colour', 'deep')]
    command = ['restore', *images, '-m', 'fill.yml', '-o', 'out']
    assert main(command) == 2
    assert main([*command, '--masks', 'masks']) == 0
    for name in ('colour', 'deep'):
        before, after = read(mixed_photos / f'{name}.png'), read(f'out/{name}.png')
        assert np.array_equal(before[mask == 0], after[mask == 0]) and not np.array_equal(before, after)


def test_masks_mean_scale_1(mixed_photos, workdir, monkeypatch):
    write_method(workdir, 'fill', INPAINTING, scale=1)
    (workdir / 'shipped').mkdir()
    os.rename('fill.yml', 'shipped/fill.yml')
    monkeypatch.setattr(recognition, 'SHIPPED_OPTIONS', workdir / 'shipped')
    (workdir / 'masks').mkdir()
    cv2.imwrite('masks/colour.png', np.eye(20, 26, dtype=np.uint8) * 255)
    for method in ('fill.pth', 'telea'):
        assert main(['restore', 'my photos/colour.png', '--masks', 'masks', '-m', method, '-o', method + '.out']) == 0


def test_no_network_sees_what_the_hole_of_an_image_holds(mixed_photos):
    seen = []

    class Restorer:
        scale = 1

        def calls(self, lq, tile, overlap):
            return 1

        def restore(self, lq, mask, tile, overlap, after_call):
            seen.append(lq)
            return lq

    picture, mask = Picture(mixed_photos / 'colour.png'), np.zeros((20, 26), np.float32)
    mask[5:12, 8:20] = 1
    args = argparse.Namespace(tile=None, overlap=0, self_ensemble=False, outscale=None)
    restore.restore(picture, Restorer(), mask, args, torch.device('cpu'), Progress(1))
    lq = seen[0][0].permute(1, 2, 0).numpy()
    assert (lq[mask == 1] == FILL).all() and np.array_equal(lq[mask == 0], picture.colours[mask == 0])


def test_an_image_that_cannot_be_read_costs_only_itself(mixed_photos, capsys):
    (mixed_photos / 'broken.png').write_bytes(b'no image')
    assert main(['restore', str(mixed_photos), '-m', 'one.yml', '-o', 'out']) == 1
    output = capsys.readouterr().out
    assert '4 images restored' in output and output.count('broken.png') == 1 and 'not an image' in output


@pytest.mark.parametrize('arguments, message', [
    (['nowhere.png', '-m', 'one.yml'], 'nowhere.png does not exist'),
    (['my photos', 'grey.png', '-m', 'one.yml'], 'grey.png would both become results/restored/grey.png.png; rename'),
    (['my photos', '-m', 'one.yml', '-o', 'my photos'], '-o: my photos is the folder of the images'),
    (['grey.png', '-m', 'one.yml', '-o', '.'], '-o: . holds grey.png itself'),
    (['.', '--recursive', '-m', 'one.yml', '-o', 'out'], '-o: with --recursive the results must not lie in .'),
    (['empty', '-m', 'one.yml'], 'empty holds no images'),
    (['my photos', '--recursive', '-m', 'one.yml', '--masks', 'my photos'], '--recursive: masks lie in one folder'),
    (['my photos', '-m', 'nowhere.yml'], '-m: nowhere.yml'),
    (['my photos', '-m', 'one.pth:two.pth'], '-m one.pth:two.pth: only an option file takes a second path'),
    (['my photos', '-m', 'bicubic'], '--scale is missing'),
    (['my photos', '-m', 'one.yml', '--scale', '3'], 'made for scale 2, --scale is 3'),
    (['my photos', '-m', 'one.yml', '--outscale', '0'], '--outscale must be above 0'),
    (['my photos', '-m', 'one.yml', '--outscale', 'nan'], '--outscale must be above 0'),
    (['my photos', '-m', 'fill.yml', '--masks', 'my photos', '--outscale', '2'], '--outscale: images with holes keep'),
    (['my photos', '-m', 'one.yml', '--tile', '-1'], '--tile must be at least 1, or 0 for no tiles, got -1'),
    (['my photos', '-m', 'one.yml', '--tile', '0', '--overlap', '4'], '--overlap must be'),
    (['my photos', '-m', 'one.yml', '--masks', 'my photos'], 'one.yml takes no masks'),
    (['my photos', '-m', 'fill.yml'], '--masks is missing for fill.yml: it inpaints (its network takes a mask, as'),
    (['my photos', '-m', 'bicubic', '--scale', '2', '-o', 'one.yml'], '-o: one.yml is a file'),
    (['grey.png', '-m', 'bicubic', '--scale', '2', '-o', 'new/large.PNG'], '-o: new/large.PNG is called like an image'),
])
def test_what_cannot_work_is_told_in_one_line(mixed_photos, capsys, arguments, message):
    os.mkdir('empty')
    cv2.imwrite('grey.png', draw(4, 4, 0))
    write_method(Path(), 'fill', INPAINTING, scale=1)
    before = sorted(Path('.').rglob('*'))
    assert main(['restore', *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1
    assert sorted(Path('.').rglob('*')) == before


def test_scale_is_that_of_the_network(mixed_photos):
    assert SCALE == 2
    assert main(['restore', str(mixed_photos / 'grey.png'), '-m', 'named=one.yml:one.pth', '-o', 'out']) == 0
    assert read('out/grey.png').shape == (40, 52)


def test_what_is_not_finite_is_refused():
    for value in (float('nan'), float('inf'), -float('inf')):
        image = torch.zeros(1, 3, 4, 4)
        image[0, 1, 2, 3] = value
        with pytest.raises(InputError, match='nan or infinity'):
            finished(image, image, None)


def test_self_ensemble_does_not_depend_on_how_the_camera_was_held(mixed_photos):
    command = ['restore', '-m', 'one.yml', '--self-ensemble']
    assert cv2.imwrite('turned.png', cv2.rotate(read(mixed_photos / 'colour.png'), cv2.ROTATE_90_CLOCKWISE))
    assert main([*command, str(mixed_photos / 'colour.png'), 'turned.png', '-o', 'out']) == 0
    turned_back = cv2.rotate(read('out/turned.png'), cv2.ROTATE_90_COUNTERCLOCKWISE)
    assert np.abs(turned_back.astype(int) - read('out/colour.png')).max() <= 1
    assert main(['restore', '-m', 'one.yml', str(mixed_photos / 'colour.png'), '-o', 'once']) == 0
    assert np.abs(read('once/colour.png').astype(int) - read('out/colour.png')).max() > 1


@pytest.mark.parametrize('factor, height, width', [(1.5, 30, 39), (3, 60, 78), (.1, 2, 3), (.01, 1, 1)])
def test_results_come_in_any_size(mixed_photos, capsys, factor, height, width):
    """20x26 pixels, by a network that makes 40x52 of them."""
    command = ['restore', 'my photos/colour.png', 'my photos/clear.png', '-m', 'one.yml', '-o', 'out']
    assert main(command) == 0
    whole = read('out/colour.png')
    assert main([*command, '--outscale', str(factor)]) == 2
    assert f'(outscale default, not {float(factor)})' in capsys.readouterr().err
    assert main([*command, '--outscale', str(factor), '--force']) == 0
    result = read('out/colour.png')
    assert result.shape == (height, width, 3) and read('out/clear.png').shape == (height, width, 4)
    expected = imresize(whole.astype(np.float32), factor / SCALE)[:height, :width].clip(0, 255)
    assert np.abs(result - expected).max() <= 2


def test_the_least_shipped_network_that_reaches_a_size_makes_it():
    for outscale, scale in ((.5, 2), (2, 2), (2.01, 3), (4, 4), (7.5, 4), (None, 4)):
        assert methods.method_or_shipped(None, None, outscale).option_file.endswith(f'_x{scale}.yml')
    assert methods.method_or_shipped(None, 4, 2.).option_file.endswith('_x4.yml')
