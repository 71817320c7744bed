"""`basicsr restore --format`: every format holds pixels, metadata and the record, or says what it cannot hold."""
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from drawing import draw
from PIL import ExifTags, Image, ImageCms
from restore_cases import read

from diffrwkvir_arch.cli import main
from diffrwkvir_arch.errors import counted
from diffrwkvir_arch.tools.arguments import restore as arguments
from diffrwkvir_arch.tools.comparison import methods
from diffrwkvir_arch.tools.restoration.formats import FORMATS

ENLARGE = ['-m', 'bicubic', '--scale', '2', '-o', 'out']
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()


def by_pillow(path):
    with Image.open(path) as image:
        return np.array(image)


@pytest.mark.parametrize('format, names', [('webp', ['colour', 'clear', 'grey']),
                                           ('tif', ['colour', 'clear', 'grey', 'deep', 'tall'])])
def test_webp_and_tiff_hold_what_png_holds_bit_for_bit(mixed_photos, format, names):
    random = np.random.default_rng(0)
    clear = random.integers(0, 256, (20, 26, 4), np.uint8)    # colours that transparency hides are kept, too
    clear[:10, :, 3] = 0
    assert cv2.imwrite('my photos/clear.png', clear)
    assert cv2.imwrite('my photos/tall.png', random.integers(0, 65536, (70, 9, 4), np.uint16))
    images = [f'my photos/{name}.png' for name in names]
    assert main(['restore', *images, *ENLARGE]) == 0
    assert main(['restore', *images, *ENLARGE, '--format', format]) == 0
    for name in names:
        png, file = read(f'out/{name}.png'), f'out/{name}.{format}'
        found = by_pillow(file) if png.dtype == np.uint8 else tifffile.imread(file)
        if png.ndim == 2 and format == 'webp':
            png = np.dstack([png] * 3)
        expected = png if png.ndim == 2 else cv2.cvtColor(png, cv2.COLOR_BGR2RGB if png.shape[2] == 3 else
                                                          cv2.COLOR_BGRA2RGBA)
        assert found.dtype == expected.dtype and np.array_equal(found, expected), name
        if format == 'tif':
            assert np.array_equal(tifffile.imread(file), expected)
            assert np.array_equal(read(file), png) or name == 'clear'    # which OpenCV multiplies by its alpha


def test_jpeg_is_near_the_pixels_and_has_all_colours(mixed_photos):
    images = [f'my photos/{name}.png' for name in ('colour', 'grey')]
    for more in ((), ('--format', 'jpg')):
        assert main(['restore', *images, *ENLARGE, *more]) == 0
    for name in ('colour', 'grey'):
        png, jpg = read(f'out/{name}.png'), read(f'out/{name}.jpg')
        assert jpg.shape == png.shape and 0 < np.abs(jpg.astype(int) - png).mean() < 2
    with Image.open('out/colour.jpg') as image:
        assert [sampling for _, *sampling, _ in image.layer] == [[1, 1]] * 3


def test_the_command_offers_all_formats():
    assert arguments.FORMATS == tuple(FORMATS)


@pytest.mark.parametrize('format', FORMATS)
def test_every_format_goes_on_and_replaces_nothing_that_was_made_otherwise(mixed_photos, capsys, format):
    images = ['my photos/colour.png', 'my photos/grey.png']
    command = ['restore', *images, '-m', 'one.yml', '-o', 'out', '--format', format]
    assert main(command) == 0
    assert sorted(os.listdir('out')) == [f'colour.{format}', f'grey.{format}']
    Path(f'out/grey.{format}').unlink()
    before = Path(f'out/colour.{format}').read_bytes()
    assert main(command) == 0 and '1 image restored, 1 was there already' in capsys.readouterr().out
    assert main([*command, '--tile', '16']) == 2
    assert f'out/colour.{format} (tile default, not 16; overlap 16, not 8)' in capsys.readouterr().err
    assert Path(f'out/colour.{format}').read_bytes() == before
    assert main([*command, '--tile', '16', '--force']) == 0
    assert Path(f'out/colour.{format}').read_bytes() != before
    assert main([*command, '--tile', '16']) == 0 and '2 were there already' in capsys.readouterr().out

    Image.fromarray(draw(4, 4, 0)).save(f'out/grey.{format}')
    foreign = Path(f'out/grey.{format}').read_bytes()
    assert main([*command, '--tile', '16']) == 2
    assert f'out/grey.{format} (it does not say what it was made from)' in capsys.readouterr().err
    assert Path(f'out/grey.{format}').read_bytes() == foreign


@pytest.mark.parametrize('endian', '<>')
@pytest.mark.parametrize('format', ['jpg', 'webp', 'tif'])
def test_every_format_has_the_profile_the_exif_and_the_resolution(workdir, format, endian):
    exif = Image.Exif()
    exif.endian = endian
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Make], exif[ExifTags.Base.Software] = 6, 'A camera', '1.0'
    exif[ExifTags.Base.TileWidth], exif[ExifTags.Base.Compression] = 512, 6    # not of the result's pixels
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details[ExifTags.Base.ExifImageWidth], details[ExifTags.Base.LensModel] = 26, 'A lens'
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = 'N'
    Image.fromarray(draw(20, 26, 0)).save('a.jpg', exif=exif, icc_profile=PROFILE, dpi=(300, 200))
    assert main(['restore', 'a.jpg', *ENLARGE]) == 0
    assert main(['restore', 'a.jpg', *ENLARGE, '--format', format]) == 0
    with Image.open(f'out/a.{format}') as image:
        assert image.size == (40, 52) and image.info['icc_profile'] == PROFILE
        found = image.getexif()
        assert found[ExifTags.Base.Make] == 'A camera' and found[ExifTags.Base.Software].startswith('basicsr restore {')
        assert (found[ExifTags.Base.XResolution], found[ExifTags.Base.YResolution]) == (300, 200)
        assert found.get(ExifTags.Base.Orientation, 1) == 1 and ExifTags.Base.TileWidth not in found
        assert found.get_ifd(ExifTags.IFD.Exif) == {ExifTags.Base.LensModel: 'A lens'}
        assert found.get_ifd(ExifTags.IFD.GPSInfo) == {ExifTags.GPS.GPSLatitudeRef: 'N'}
        assert format == 'webp' or image.info['dpi'] == (300, 200)
        assert np.abs(np.array(image).astype(int) - read('out/a.png')[..., ::-1]).mean() < 2


def test_a_grey_profile_is_not_put_beside_the_colours_of_webp(workdir):
    Image.fromarray(draw(20, 26, 0)[..., 0]).save('a.png', icc_profile=PROFILE[:16] + b'GRAY' + PROFILE[20:])
    for format, has_it in {'webp': False, 'jpg': True, 'tif': True}.items():
        assert main(['restore', 'a.png', *ENLARGE, '--format', format]) == 0
        with Image.open(f'out/a.{format}') as image:
            assert ('icc_profile' in image.info) is has_it


def test_the_exif_of_tiffs_is_kept(workdir):
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.LensModel] = 'A camera', 'A lens'
    Image.fromarray(draw(20, 26, 0)).save('a.jpg', exif=exif)
    assert main(['restore', 'a.jpg', *ENLARGE[:-1], '.', '--format', 'tif']) == 0
    for format in FORMATS:
        assert main(['restore', 'a.tif', *ENLARGE, '--format', format]) == 0
        with Image.open(f'out/a.{format}') as image:
            found = image.getexif()
            assert found[ExifTags.Base.Make] == 'A camera' and len(found) < 20
            assert found.get_ifd(ExifTags.IFD.Exif) == {ExifTags.Base.LensModel: 'A lens'}


@pytest.mark.parametrize('format', FORMATS)
def test_what_a_big_tiff_says_of_its_camera_is_kept(workdir, format):
    tifffile.imwrite('a.tif', draw(20, 26, 0), bigtiff=True, photometric='rgb',
                     extratags=[(int(ExifTags.Base.Make), 's', 0, 'A camera', True)])
    assert main(['restore', 'a.tif', *ENLARGE, '--format', format]) == 0
    with Image.open(f'out/a.{format}') as image:
        found = image.getexif()
        assert found[ExifTags.Base.Make] == 'A camera' and image.size == (52, 40)
        assert ExifTags.Base.ImageDescription not in found    # tifffile's of an array of 20x26x3


def test_exif_that_no_jpeg_holds_is_left_out_and_the_record_stays(workdir, capsys):
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] = bytes(65500)
    Image.fromarray(draw(20, 26, 0)).save('a.webp', exif=exif)
    for restored in (1, 0):
        assert main(['restore', 'a.webp', *ENLARGE, '--format', 'jpg']) == 0
        assert f'{counted(restored, "image")} restored' in capsys.readouterr().out


@pytest.mark.parametrize('name, format, said', [
    ('deep', 'jpg', 'JPEG cannot hold 16 bits; use --format png or tif'),
    ('deep', 'webp', 'WebP cannot hold 16 bits; use --format png or tif'),
    ('clear', 'jpg', 'JPEG cannot hold alpha; use --format png or webp or tif'),
    ('wide', 'jpg', 'JPEG cannot hold 65502x4: its sides are 65500 at most; use --format png or tif'),
    ('wide', 'webp', 'WebP cannot hold 65502x4: its sides are 16383 at most; use --format png or tif'),
])
def test_what_a_format_cannot_hold_is_told_before_a_network_runs(mixed_photos, monkeypatch, capsys, name, format, said):
    cv2.imwrite('my photos/wide.png', np.zeros((2, 32751), np.uint8))
    monkeypatch.setattr(methods.Network, 'restore', None)
    image = f'my photos/{name}.png'
    assert main(['restore', image, '-m', 'one.yml', '-o', 'out', '--format', format]) == 1
    assert f'failed: {image}: {said}\n' in capsys.readouterr().out and not os.listdir('out')


def test_what_is_larger_than_a_tiff_is_told(mixed_photos, monkeypatch, capsys):
    monkeypatch.setitem(FORMATS, 'tif', FORMATS['tif']._replace(bytes=40 * 52 * 3 * 2 - 1))
    assert main(['restore', 'my photos', *ENLARGE, '--format', 'tif']) == 1
    said = capsys.readouterr().out
    assert '3 images restored' in said
    assert 'deep.png: TIFF cannot hold 52x40: it takes 0 GB at most; use --format png\n' in said


def test_alpha_that_hides_nothing_keeps_no_image_from_jpeg(workdir):
    Image.fromarray(draw(20, 26, 0)).convert('RGBA').save('a.png')
    assert main(['restore', 'a.png', *ENLARGE, '--format', 'jpg']) == 0 and read('out/a.jpg').shape == (40, 52, 3)


def test_a_suffix_goes_between_name_and_ending(mixed_photos, capsys):
    command = ['restore', 'my photos/colour.png', *ENLARGE, '--suffix', '_x2']
    assert main(command) == 0 and main([*command, '--format', 'webp']) == 0
    assert sorted(os.listdir('out')) == ['colour_x2.png', 'colour_x2.webp']
    assert main([*command, '-o', 'my photos']) == 0 and read('my photos/colour_x2.png').shape == (40, 52, 3)
    assert main([*command, '--suffix', '/x2']) == 2
    assert "--suffix /x2: it cannot be part of a file's name" in capsys.readouterr().err
