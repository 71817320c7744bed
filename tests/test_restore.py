"""`basicsr restore`: what comes out for which file, where it goes on, what is refused."""
import argparse
import io
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from basicsr.archs.edsr_arch import EDSR as EDSRNet
from basicsr.utils import img2tensor, tensor2img
from compare_cases import DIFFUSING, EDSR, INPAINTING, SCALE, build, write_method
from drawing import draw
from PIL import Image, ImageOps

from diffrwkvir_arch.archs.diffrwkvir_s2_arch import DiffRWKVIRS2
from diffrwkvir_arch.bicubic import imresize
from diffrwkvir_arch.cli import main
from diffrwkvir_arch.data.image_file import decode_image
from diffrwkvir_arch.data.inpainting_dataset import FILL
from diffrwkvir_arch.tools import restore
from diffrwkvir_arch.tools.comparison import methods


@pytest.fixture
def photos(workdir):
    """workdir/'my photos' with a colour, a grey, a 16-bit and a transparent picture, and a method, one.yml."""
    folder = workdir / 'my photos'
    folder.mkdir()
    picture = draw(20, 26, 0)
    alpha = np.full((20, 26, 1), 255, np.uint8)
    alpha[:10] = 0
    for name, image in {'colour': picture, 'grey': picture[..., 0], 'deep': picture.astype(np.uint16) * 257,
                        'clear': np.concatenate([picture, alpha], 2)}.items():
        assert cv2.imwrite(str(folder / f'{name}.png'), image)
    write_method(workdir, 'one', EDSR, seed=1)
    return folder


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_a_result_is_what_the_network_makes_of_the_image(photos, capsys):
    assert main(['restore', 'my photos', '-m', 'one.yml', '-o', 'an output']) == 0
    assert 'an output: 4 images restored' in capsys.readouterr().out
    with torch.no_grad():
        expected = build(EDSR, 1)(img2tensor(read(photos / 'colour.png').astype(np.float32) / 255)[None])
    assert np.array_equal(read('an output/colour.png'), tensor2img(expected))


def test_grey_depth_and_transparency_stay_what_they_are(photos):
    assert main(['restore', str(photos), '-m', 'bicubic', '--scale', '2', '-o', 'out']) == 0
    assert read('out/grey.png').shape == (40, 52) and read('out/grey.png').dtype == np.uint8
    deep, colour = read('out/deep.png'), read('out/colour.png')
    assert deep.dtype == np.uint16 and np.abs(deep / 257. - colour).max() <= 0.51 and (deep % 257 != 0).any()
    clear = read('out/clear.png')
    assert clear.shape == (40, 52, 4) and np.array_equal(clear[..., :3], colour)
    assert (clear[:16, :, 3] == 0).all() and (clear[-16:, :, 3] == 255).all()
    original = read(photos / 'colour.png').astype(np.float64) / 255
    assert np.array_equal(colour, (imresize(original.astype(np.float32), 2).clip(0, 1) * 255).round().astype(np.uint8))


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('file', ['a.png', 'a.webp', 'a.tif'])
def test_alpha_is_turned_with_the_colours_as_exif_says(workdir, file, orientation):
    colours, exif = np.random.default_rng(0).integers(1, 256, (10, 20, 3), np.uint8), Image.Exif()
    exif[0x0112] = orientation
    rgba = Image.fromarray(np.dstack([colours, colours[..., 0]]))
    rgba.save(file, exif=exif, **({'lossless': True} if file == 'a.webp' else {}))
    picture = restore.Picture(Path(file))
    content = Path(file).read_bytes()
    right_way_up = np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    assert np.array_equal(picture.alpha, right_way_up[..., 3])
    assert np.array_equal(picture.colours, decode_image(content, file))
    if file != 'a.tif':    # OpenCV multiplies a TIFF's colours by its alpha
        assert np.array_equal((picture.colours * 255).round(), right_way_up[..., :3])


def test_grey_beside_alpha_comes_out_in_equal_colours(photos):
    grey = read(photos / 'grey.png')
    Image.fromarray(np.dstack([grey, 255 - grey])).save('both.png')
    assert main(['restore', 'both.png', str(photos / 'grey.png'), '-m', 'one.yml', '-o', 'out']) == 0
    both = read('out/both.png')
    assert both.shape == (40, 52, 4) and np.array_equal(both[..., :3], np.dstack([read('out/grey.png')] * 3))


def test_it_goes_on_where_it_was_and_replaces_on_demand_alone(photos, capsys, monkeypatch):
    command = ['restore', str(photos), '-m', 'one.yml', '-o', 'out']
    seen, restored = [], methods.Network.restore

    def interrupted(self, lq, **options):
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return restored(self, lq, **options)

    monkeypatch.setattr(methods.Network, 'restore', interrupted)
    assert main(command) == 130 and 'the same command goes on' in capsys.readouterr().err
    assert main(command) == 0 and len(seen) == 5 and len(os.listdir('out')) == 4
    assert '2 images restored, 2 were there already' in capsys.readouterr().out
    assert main([*command, '--force']) == 0 and len(seen) == 9


def test_bfloat16_is_used_on_demand_and_near_float32(photos, monkeypatch):
    seen, called = [], EDSRNet.forward

    def watched(self, x):
        seen.append(torch.is_autocast_enabled('cpu') and torch.get_autocast_dtype('cpu'))
        return called(self, x)

    monkeypatch.setattr(EDSRNet, 'forward', watched)
    for out, more in {'single': [], 'half': ['--amp', 'bf16']}.items():
        assert main(['restore', str(photos / 'colour.png'), '-m', 'one.yml', '-o', out, *more]) == 0
    single, half = (read(f'{out}/colour.png').astype(int) for out in ('single', 'half'))
    assert seen == [False, torch.bfloat16] and 0 < np.abs(half - single).max() <= 4


def test_tiles_of_a_network_with_a_prior_share_that_of_the_whole_image(photos, workdir, monkeypatch):
    write_method(workdir, 'two', DIFFUSING, seed=2)
    seen, extract_prior = [], DiffRWKVIRS2.extract_prior

    def watched(self, lq, *more, **options):
        seen.append(tuple(lq.shape))
        return extract_prior(self, lq, *more, **options)

    monkeypatch.setattr(DiffRWKVIRS2, 'extract_prior', watched)
    for out, more in (('whole', ()), ('tiles', ('--tile', '16'))):
        assert main(['restore', str(photos / 'colour.png'), '-m', 'two.yml', '-o', out, *more]) == 0
    assert seen == [(1, 3, 20, 26)] * 2
    whole, tiles = (read(f'{out}/colour.png').astype(int) for out in ('whole', 'tiles'))
    assert np.abs(whole - tiles).mean() < 1


def test_holes_are_filled_and_known_pixels_stay(photos, workdir):
    write_method(workdir, 'fill', INPAINTING, scale=1)
    (workdir / 'masks').mkdir()
    mask = np.zeros((20, 26), np.uint8)
    mask[5:12, 8:20] = 255
    for name in ('colour', 'deep'):
        cv2.imwrite(f'masks/{name}.png', mask)
    command = ['restore', *(str(photos / f'{name}.png') for name in ('colour', 'deep')), '-m', 'fill.yml', '-o', 'out']
    assert main(command) == 2
    assert main([*command, '--masks', 'masks']) == 0
    for name in ('colour', 'deep'):
        before, after = read(photos / f'{name}.png'), read(f'out/{name}.png')
        assert np.array_equal(before[mask == 0], after[mask == 0]) and not np.array_equal(before, after)


def test_no_network_sees_what_the_hole_of_an_image_holds(photos):
    seen = []

    class Restorer:
        def restore(self, lq, mask, tile, overlap):
            seen.append(lq)
            return lq

    picture, mask = restore.Picture(photos / 'colour.png'), np.zeros((20, 26), np.float32)
    mask[5:12, 8:20] = 1
    args = argparse.Namespace(tile=None, overlap=0, self_ensemble=False)
    restore.restore(picture, Restorer(), mask, args, torch.device('cpu'))
    lq = seen[0][0].permute(1, 2, 0).numpy()
    assert (lq[mask == 1] == FILL).all() and np.array_equal(lq[mask == 0], picture.colours[mask == 0])


def test_an_image_that_cannot_be_read_costs_only_itself(photos, capsys):
    (photos / 'broken.png').write_bytes(b'no image')
    assert main(['restore', str(photos), '-m', 'one.yml', '-o', 'out']) == 1
    output = capsys.readouterr().out
    assert '4 images restored' in output and output.count('broken.png') == 1 and 'not an image' in output


@pytest.mark.parametrize('arguments, message', [
    (['nowhere.png', '-m', 'one.yml'], 'nowhere.png does not exist'),
    (['my photos', 'my photos/grey.png', '-m', 'one.yml'], 'would both become grey.png'),
    (['my photos', '-m', 'one.yml', '-o', 'my photos'], "-o: my photos holds my photos/clear.png itself"),
    (['my photos', '-m', 'nowhere.yml'], '-m: nowhere.yml'),
    (['my photos', '-m', 'one.pth:two.pth'], '-m one.pth:two.pth: only an option file takes a second path'),
    (['my photos', '-m', 'one.pth'], '--scale is missing'),
    (['my photos', '-m', 'one.yml', '--scale', '3'], 'made for scale 2, --scale is 3'),
    (['my photos', '-m', 'one.yml', '--tile', '-1'], '--tile must be at least 1'),
    (['my photos', '-m', 'one.yml', '--tile', '0', '--overlap', '4'], '--overlap must be'),
    (['my photos', '-m', 'one.yml', '--masks', 'my photos'], 'one.yml takes no masks'),
    (['my photos', '-m', 'bicubic', '--scale', '2', '-o', 'one.yml'], '-o: one.yml is a file'),
])
def test_what_cannot_work_is_told_in_one_line(photos, capsys, arguments, message):
    before = sorted(Path('.').rglob('*'))
    assert main(['restore', *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1
    assert sorted(Path('.').rglob('*')) == before


def test_scale_is_that_of_the_network(photos):
    assert SCALE == 2
    assert main(['restore', str(photos / 'grey.png'), '-m', 'named=one.yml:one.pth', '-o', 'out']) == 0
    assert read('out/grey.png').shape == (40, 52)


def test_self_ensemble_does_not_depend_on_how_the_camera_was_held(photos):
    command = ['restore', '-m', 'one.yml', '--self-ensemble']
    assert cv2.imwrite('turned.png', cv2.rotate(read(photos / 'colour.png'), cv2.ROTATE_90_CLOCKWISE))
    assert main([*command, str(photos / 'colour.png'), 'turned.png', '-o', 'out']) == 0
    turned_back = cv2.rotate(read('out/turned.png'), cv2.ROTATE_90_COUNTERCLOCKWISE)
    assert np.abs(turned_back.astype(int) - read('out/colour.png')).max() <= 1
    assert main(['restore', '-m', 'one.yml', str(photos / 'colour.png'), '-o', 'once']) == 0
    assert np.abs(read('once/colour.png').astype(int) - read('out/colour.png')).max() > 1


@pytest.mark.parametrize('arguments, tiles', [([], [16, None]), (['--tile', '0'], [None, None]),
                                              (['--tile', '10', '--overlap', '3'], [10, 10])])
def test_large_images_are_restored_in_tiles_unless_told_otherwise(photos, monkeypatch, arguments, tiles):
    monkeypatch.setattr(restore, 'LARGE', 400)
    monkeypatch.setattr(restore, 'TILE_OF_LARGE', 16)
    assert cv2.imwrite('small.png', draw(12, 26, 0))
    seen, restored = [], methods.Network.restore

    def watched(self, lq, **options):
        seen.append(options['tile'])
        return restored(self, lq, **options)

    monkeypatch.setattr(methods.Network, 'restore', watched)
    assert main(['restore', str(photos / 'colour.png'), 'small.png', '-m', 'one.yml', '-o', 'out', *arguments]) == 0
    assert seen == tiles and read('out/colour.png').shape == (40, 52, 3)


def test_an_image_too_large_for_the_memory_is_told_and_the_others_go_on(photos, monkeypatch, capsys):
    restored = methods.Network.restore

    def hungry(self, lq, **options):
        if lq.shape[-1] == 26 and options['tile'] is None:
            raise torch.cuda.OutOfMemoryError('CUDA out of memory')
        return restored(self, lq, **options)

    monkeypatch.setattr(methods.Network, 'restore', hungry)
    assert cv2.imwrite('small.png', draw(12, 20, 0))
    command = ['restore', str(photos / 'colour.png'), 'small.png', '-m', 'one.yml', '-o', 'out']
    assert main(command) == 1 and os.listdir('out') == ['small.png']
    assert 'colour.png: too large for the memory of cpu; restore it in tiles, --tile 256' in capsys.readouterr().out
    assert main([*command, '--tile', '16']) == 0
