"""`basicsr restore`: what comes out for which file, where it goes on, what is refused."""
import argparse
import io
import os
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from basicsr.archs.edsr_arch import EDSR as EDSRNet
from basicsr.utils import img2tensor, tensor2img
from compare_cases import DIFFUSING, EDSR, INPAINTING, SCALE, build, write_method
from drawing import draw
from PIL import Image, ImageCms, ImageOps
from torch.utils._python_dispatch import TorchDispatchMode

from diffrwkvir_arch.archs.diffrwkvir_s2_arch import DiffRWKVIRS2
from diffrwkvir_arch.bicubic import imresize
from diffrwkvir_arch.cli import main
from diffrwkvir_arch.data.image_file import decode_image
from diffrwkvir_arch.data.inpainting_dataset import FILL
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.tiling import restore_tiled
from diffrwkvir_arch.tools import restore
from diffrwkvir_arch.tools.comparison import methods, recognition
from diffrwkvir_arch.tools.comparison.network import finished
from diffrwkvir_arch.tools.restoration.progress import Progress


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


def test_a_result_has_the_colour_profile_the_exif_and_the_resolution_of_its_image(workdir):
    picture, exif = Image.fromarray(draw(20, 26, 0)), Image.Exif()
    exif[0x112], exif[0x10F] = 6, 'A camera'
    exif.get_ifd(0x8769)[0xA002] = 26
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    picture.save('a.jpg', exif=exif, icc_profile=profile, dpi=(300, 300))
    grey = profile[:16] + b'GRAY' + profile[20:]
    picture.convert('L').save('b.png', icc_profile=grey)
    picture.convert('CMYK').save('c.jpg', icc_profile=profile[:16] + b'CMYK' + profile[20:])
    assert main(['restore', 'a.jpg', 'b.png', 'c.jpg', '-m', 'bicubic', '--scale', '2', '-o', 'out']) == 0
    a, b, c = (Image.open(f'out/{name}.png') for name in 'abc')
    assert a.info['icc_profile'] == profile and b.info['icc_profile'] == grey and 'icc_profile' not in c.info
    assert a.size == (40, 52) and a.info['dpi'] == pytest.approx((300, 300), abs=0.1)
    assert dict(a.getexif()).keys() == {0x10F, 0x8769} and 0xA002 not in a.getexif().get_ifd(0x8769)
    assert read('out/a.png').shape == (52, 40, 3)


@pytest.mark.filterwarnings('error:Corrupt EXIF')
def test_exif_that_cannot_be_read_is_left_out(workdir):
    Image.fromarray(draw(20, 26, 0)).save('a.jpg', exif=b'Exif\0\0II*\0\xff\xff\0\0')
    assert main(['restore', 'a.jpg', '-m', 'bicubic', '--scale', '2', '-o', 'out']) == 0
    assert 'exif' not in Image.open('out/a.png').info


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


@pytest.mark.parametrize('change, what', [
    ([], 'another image'),
    (['-m', 'other.yml'], 'another method'),
    (['-m', 'bicubic', '--scale', '3'], 'another method; scale 2, not 3'),
    (['--tile', '16'], 'tile default, not 16; overlap 16, not 8'),
    (['--self-ensemble'], 'self_ensemble False, not True'),
    (['--amp', 'bf16'], 'amp default, not bf16'),
])
def test_what_was_made_otherwise_is_neither_taken_for_done_nor_replaced(photos, workdir, capsys, change, what):
    write_method(workdir, 'other', EDSR, seed=2)
    command = ['restore', 'my photos/colour.png', 'my photos/grey.png', '-m', 'one.yml', '-o', 'out']
    assert main(command) == 0
    if not change:
        os.replace('my photos/clear.png', 'my photos/colour.png')
    before = Path('out/colour.png').read_bytes()
    assert main([*command, *change]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f'out/colour.png ({what}); give another -o, or --force' in error
    assert Path('out/colour.png').read_bytes() == before
    assert main([*command, *change, '--force']) == 0 and Path('out/colour.png').read_bytes() != before
    assert main([*command, *change]) == 0 and '2 were there already' in capsys.readouterr().out


def test_a_file_of_another_program_is_not_replaced(photos, capsys):
    os.mkdir('out')
    cv2.imwrite('out/colour.png', draw(4, 4, 0))
    assert main(['restore', 'my photos', '-m', 'one.yml', '-o', 'out']) == 2
    assert 'out/colour.png (it does not say what it was made from)' in capsys.readouterr().err
    assert read('out/colour.png').shape == (4, 4, 3) and os.listdir('out') == ['colour.png']


def test_weights_may_move_and_are_the_same(photos):
    command = ['restore', 'my photos/colour.png', '-o', 'out', '-m']
    assert main([*command, 'one.yml']) == 0
    os.rename('one.pth', 'moved.pth')
    os.utime('moved.pth', (1, 1))
    assert main([*command, 'one.yml:moved.pth']) == 0


def test_a_method_that_does_not_exist_is_told_where_nothing_is_left_to_do_too(photos, capsys):
    command = ['restore', 'my photos', '--scale', '2', '-o', 'out', '-m']
    assert main([*command, 'bicubic']) == 0 and main([*command, 'bicubik']) == 2
    assert "bicubik does not exist (did you mean 'bicubic'?)" in capsys.readouterr().err


def test_another_mask_is_another_result(photos, workdir, capsys):
    write_method(workdir, 'fill', INPAINTING, scale=1)
    (workdir / 'masks').mkdir()
    mask = np.zeros((20, 26), np.uint8)
    command = ['restore', 'my photos/colour.png', '-m', 'fill.yml', '-o', 'out', '--masks', 'masks']
    for row, code in ((5, 0), (6, 2)):
        mask[row, 8:20] = 255
        cv2.imwrite('masks/colour.png', mask)
        assert main(command) == code
    assert 'another mask' in capsys.readouterr().err


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


def test_masks_mean_scale_1(photos, workdir, monkeypatch):
    write_method(workdir, 'fill', INPAINTING, scale=1)
    (workdir / 'shipped').mkdir()
    os.rename('fill.yml', 'shipped/fill.yml')
    monkeypatch.setattr(recognition, 'SHIPPED_OPTIONS', (workdir / 'shipped', ))
    (workdir / 'masks').mkdir()
    cv2.imwrite('masks/colour.png', np.eye(20, 26, dtype=np.uint8) * 255)
    for method in ('fill.pth', 'telea'):
        assert main(['restore', 'my photos/colour.png', '--masks', 'masks', '-m', method, '-o', method + '.out']) == 0


def test_no_network_sees_what_the_hole_of_an_image_holds(photos):
    seen = []

    class Restorer:
        scale = 1

        def calls(self, lq, tile, overlap):
            return 1

        def restore(self, lq, mask, tile, overlap, after_call):
            seen.append(lq)
            return lq

    picture, mask = restore.Picture(photos / 'colour.png'), np.zeros((20, 26), np.float32)
    mask[5:12, 8:20] = 1
    args = argparse.Namespace(tile=None, overlap=0, self_ensemble=False)
    restore.restore(picture, Restorer(), mask, args, torch.device('cpu'), Progress(1))
    lq = seen[0][0].permute(1, 2, 0).numpy()
    assert (lq[mask == 1] == FILL).all() and np.array_equal(lq[mask == 0], picture.colours[mask == 0])


def test_an_image_that_cannot_be_read_costs_only_itself(photos, capsys):
    (photos / 'broken.png').write_bytes(b'no image')
    assert main(['restore', str(photos), '-m', 'one.yml', '-o', 'out']) == 1
    output = capsys.readouterr().out
    assert '4 images restored' in output and output.count('broken.png') == 1 and 'not an image' in output


def test_what_a_decoder_says_is_told_with_the_name_of_the_file(workdir, capfd):
    content = cv2.imencode('.jpg', np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))[1].tobytes()
    Path('damaged.jpg').write_bytes(content[:-500] + content[-2:])
    Path('cut.png').write_bytes(cv2.imencode('.png', draw(20, 26, 0))[1].tobytes()[:-300])
    command = ['-m', 'bicubic', '--scale', '2', '-o', 'out']
    assert main(['restore', 'damaged.jpg', 'cut.png', *command]) == 1
    out, err = capfd.readouterr()
    assert err.count('Corrupt JPEG data') == 1 and 'damaged.jpg: its decoder says: Corrupt JPEG data' in err
    assert 'cut.png: not an image, or a damaged one' in out and 'ERROR' not in err and 'WARN' not in err


def test_tiny_tiles_are_warned_of(photos, caplog):
    command = ['restore', 'my photos/grey.png', '-m', 'one.yml', '-o', 'out', '--force', '--tile']
    for tile, warned in (('31', True), ('32', False), ('0', False)):
        caplog.clear()
        assert main([*command, tile]) == 0
        assert ('--tile 31: tiles this small' in caplog.text) is warned


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
    (['my photos', '-m', 'one.yml', '--tile', '-1'], '--tile must be at least 1'),
    (['my photos', '-m', 'one.yml', '--tile', '0', '--overlap', '4'], '--overlap must be'),
    (['my photos', '-m', 'one.yml', '--masks', 'my photos'], 'one.yml takes no masks'),
    (['my photos', '-m', 'bicubic', '--scale', '2', '-o', 'one.yml'], '-o: one.yml is a file'),
])
def test_what_cannot_work_is_told_in_one_line(photos, capsys, arguments, message):
    os.mkdir('empty')
    cv2.imwrite('grey.png', draw(4, 4, 0))
    before = sorted(Path('.').rglob('*'))
    assert main(['restore', *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1
    assert sorted(Path('.').rglob('*')) == before


def test_scale_is_that_of_the_network(photos):
    assert SCALE == 2
    assert main(['restore', str(photos / 'grey.png'), '-m', 'named=one.yml:one.pth', '-o', 'out']) == 0
    assert read('out/grey.png').shape == (40, 52)


def test_floats_become_16_bits(workdir):
    picture = np.linspace(0, 1, 20 * 26 * 3, dtype=np.float32).reshape(20, 26, 3)
    assert cv2.imwrite('a.tif', picture)
    assert main(['restore', 'a.tif', '-m', 'bicubic', '--scale', '2', '-o', 'out']) == 0
    colour = read('out/a.png')
    assert colour.dtype == np.uint16 and np.abs(colour / 65535 - imresize(picture, 2).clip(0, 1)).max() < 1e-5
    assert len(np.unique(colour)) > 256 * 4


@pytest.mark.parametrize('value, said', [(4, '0 to 4'), (-1, '-1 to 0'), (float('nan'), 'nan to nan')])
def test_floats_beyond_white_are_not_clipped_in_silence(workdir, capsys, value, said):
    image = np.zeros((8, 9, 3), np.float32)
    image[4, 5] = value
    assert cv2.imwrite('a.tif', image)
    assert main(['restore', 'a.tif', '-m', 'bicubic', '--scale', '2', '-o', 'out']) == 1
    assert f'a.tif: its values are {said}; a float image needs 0 to 1' in capsys.readouterr().out


@pytest.mark.parametrize('more, steps', [((), 6), (('--self-ensemble', ), 48)])
def test_the_bar_moves_with_every_tile(photos, monkeypatch, capsys, more, steps):
    seen, update = [], Progress.update

    def watched(self, share):
        seen.append(self.n)
        return update(self, share)

    monkeypatch.setattr(Progress, 'update', watched)
    command = ['restore', str(photos / 'colour.png'), 'my photos/grey.png', '-m', 'one.yml', '-o', 'out', *more]
    assert main([*command, '--tile', '16']) == 0
    assert np.allclose(seen, [*np.arange(steps + 1) / steps, *(1 + np.arange(steps + 1) / steps)])
    assert f'colour.png: 26x20 to 52x40 in {steps} steps\n' in capsys.readouterr().err


class Whole(TorchDispatchMode):
    """Keeps every tensor of at least so many numbers that is made meanwhile."""

    def __init__(self, numbers):
        super().__init__()
        self.numbers, self.made = numbers, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.numel() >= self.numbers:
            self.made.append(out)
        return out

    def count(self):
        return len({tensor.untyped_storage().data_ptr() for tensor in self.made})


def test_of_a_tiled_result_one_copy_in_floats_is_made(workdir, monkeypatch):
    monkeypatch.setattr(restore, 'ROWS', 16)
    cv2.imwrite('a.png', draw(64, 80, 0))
    picture = restore.Picture(Path('a.png'))
    lq = picture.to_batch('cpu')
    with torch.no_grad(), Whole(3 * 256 * 320) as whole:
        result = restore_tiled(lambda piece: piece.repeat_interleave(4, -1).repeat_interleave(4, -2), lq, 4, 16, 4)
        result = finished(result, lq, None)
        tracemalloc.start()
        image = picture.like_this(result)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert whole.count() == 1 and peak < 2 * image.nbytes
    assert np.array_equal(image, read('a.png').repeat(4, 0).repeat(4, 1))


def test_what_is_not_finite_is_refused():
    for value in (float('nan'), float('inf'), -float('inf')):
        image = torch.zeros(1, 3, 4, 4)
        image[0, 1, 2, 3] = value
        with pytest.raises(InputError, match='nan or infinity'):
            finished(image, image, None)


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
    said = capsys.readouterr().out
    assert 'colour.png: too large for the memory of cpu; restore it alone, in tiles, --tile 256' in said
    assert main(['restore', str(photos / 'colour.png'), *command[3:], '--tile', '16']) == 0
