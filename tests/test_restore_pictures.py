"""`basicsr restore`: what a result keeps of its file, grey, depth, alpha, colour profile and EXIF."""
import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from drawing import draw
from PIL import Image, ImageCms, ImageOps
from restore_cases import read

from diffrwkvir_arch.bicubic import imresize
from diffrwkvir_arch.cli import main
from diffrwkvir_arch.data.image_file import decode_image
from diffrwkvir_arch.tools.restoration.picture import Picture


def test_grey_depth_and_transparency_stay_what_they_are(mixed_photos):
    assert main(['restore', str(mixed_photos), '-m', 'bicubic', '--scale', '2', '-o', 'out']) == 0
    assert read('out/grey.png').shape == (40, 52) and read('out/grey.png').dtype == np.uint8
    deep, colour = read('out/deep.png'), read('out/colour.png')
    assert deep.dtype == np.uint16 and np.abs(deep / 257. - colour).max() <= 0.51 and (deep % 257 != 0).any()
    clear = read('out/clear.png')
    assert clear.shape == (40, 52, 4) and np.array_equal(clear[..., :3], colour)
    assert (clear[:16, :, 3] == 0).all() and (clear[-16:, :, 3] == 255).all()
    original = read(mixed_photos / 'colour.png').astype(np.float64) / 255
    assert np.array_equal(colour, (imresize(original.astype(np.float32), 2).clip(0, 1) * 255).round().astype(np.uint8))


def test_grey_beside_alpha_comes_out_in_equal_colours(mixed_photos):
    grey = read(mixed_photos / 'grey.png')
    Image.fromarray(np.dstack([grey, 255 - grey])).save('both.png')
    assert main(['restore', 'both.png', str(mixed_photos / 'grey.png'), '-m', 'one.yml', '-o', 'out']) == 0
    both = read('out/both.png')
    assert both.shape == (40, 52, 4) and np.array_equal(both[..., :3], np.dstack([read('out/grey.png')] * 3))


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('file', ['a.png', 'a.webp', 'a.tif'])
def test_alpha_is_turned_with_the_colours_as_exif_says(workdir, file, orientation):
    colours, exif = np.random.default_rng(0).integers(1, 256, (10, 20, 3), np.uint8), Image.Exif()
    exif[0x0112] = orientation
    rgba = Image.fromarray(np.dstack([colours, colours[..., 0]]))
    rgba.save(file, exif=exif, **({'lossless': True} if file == 'a.webp' else {}))
    picture = Picture(Path(file))
    content = Path(file).read_bytes()
    right_way_up = np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    assert np.array_equal(picture.alpha, right_way_up[..., 3])
    assert np.array_equal(picture.colours, decode_image(content, file))
    assert np.array_equal((picture.colours * 255).round(), right_way_up[..., :3])


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


@pytest.mark.parametrize('channels', [1, 3, 4])
def test_floats_become_16_bits(workdir, channels):
    picture = np.linspace(0, 1, 20 * 26 * channels, dtype=np.float32).reshape(20, 26, channels).squeeze()
    tifffile.imwrite('a.tif', picture, photometric='minisblack' if channels == 1 else 'rgb',
                     extrasamples=['unassalpha'] if channels == 4 else None)
    assert main(['restore', 'a.tif', '-m', 'bicubic', '--scale', '2', '-o', 'out']) == 0
    result = read('out/a.png')
    assert result.dtype == np.uint16 and result.shape == (40, 52, channels)[:picture.ndim]
    if channels == 4:    # alpha is enlarged otherwise
        result, picture = result[..., :3], picture[..., :3]
    enlarged = imresize(np.atleast_3d(picture[..., ::-1] if channels > 1 else picture), 2).clip(0, 1).squeeze()
    assert np.abs(result / 65535 - enlarged).max() < 2e-5
    assert len(np.unique(result)) > 256 * 4


@pytest.mark.parametrize('value, said', [(4, '0 to 4'), (-1, '-1 to 0'), (float('nan'), 'nan to nan')])
def test_floats_beyond_white_are_not_clipped_in_silence(workdir, capsys, value, said):
    image = np.zeros((8, 9, 3), np.float32)
    image[4, 5] = value
    assert cv2.imwrite('a.tif', image)
    assert main(['restore', 'a.tif', '-m', 'bicubic', '--scale', '2', '-o', 'out']) == 1
    assert f'a.tif: its values are {said}; a float image needs [0, 1]' in capsys.readouterr().out


def test_what_a_decoder_says_is_told_with_the_name_of_the_file(workdir, capfd):
    content = cv2.imencode('.jpg', np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))[1].tobytes()
    Path('damaged.jpg').write_bytes(content[:-500] + content[-2:])
    Path('cut.png').write_bytes(cv2.imencode('.png', draw(20, 26, 0))[1].tobytes()[:-300])
    command = ['-m', 'bicubic', '--scale', '2', '-o', 'out']
    assert main(['restore', 'damaged.jpg', 'cut.png', *command]) == 1
    out, err = capfd.readouterr()
    assert err.count('Corrupt JPEG data') == 1 and 'damaged.jpg: its decoder says: Corrupt JPEG data' in err
    assert 'cut.png: not an image, or a damaged one' in out and 'ERROR' not in err and 'WARN' not in err


def test_files_of_other_kinds_are_told_what_they_are(workdir, capsys):
    for name, start in {'a.heic': b'\0\0\0\x18ftypheic\0', 'b.jxl': b'\xff\x0a', 'c.psd': b'8BPS\0\1'}.items():
        Path(name).write_bytes(start + bytes(50))
    assert main(['restore', 'a.heic', 'b.jxl', 'c.psd', '-m', 'bicubic', '--scale', '2', '-o', 'out']) == 1
    said = capsys.readouterr().out
    for name, kind in {'a.heic': 'HEIC', 'b.jxl': 'JPEG XL', 'c.psd': 'Photoshop'}.items():
        assert f'failed: {name}: {kind} is not read here; convert it to JPEG, PNG or TIFF\n' in said
