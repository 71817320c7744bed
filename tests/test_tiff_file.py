"""TIFFs of every kind are read as other programs read them: what OpenCV misreads goes another way."""
import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from diffrwkvir_arch.data.image_file import decode_image, decode_stored
from diffrwkvir_arch.errors import InputError

ASSOCIATED, UNASSOCIATED = 1, 2
ORIENTATION = 274


def content_of(pixels, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, photometric='minisblack' if pixels.ndim == 2 or pixels.shape[-1] == 2 else 'rgb',
                     **options)
    return file.getvalue()


def upright(image, orientation):
    """As EXIF 2.32 has it: where the first row and the first column of the file are on the image."""
    rows, columns = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1),
                     8: (-1, 1)}[orientation]
    image = image.swapaxes(0, 1) if orientation > 4 else image
    return image[::rows, ::columns]


@pytest.mark.parametrize('orientation', [1, 3, 6, 7])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize('channels, alpha', [(1, None), (3, None), (2, UNASSOCIATED), (4, UNASSOCIATED),
                                             (4, ASSOCIATED)])
def test_every_kind_of_pixels_is_read_with_its_alpha_and_upright(channels, alpha, dtype, orientation):
    values = np.random.default_rng(0).uniform(0.5, 1, (10, 20, channels))
    stored = values.copy()
    if alpha == ASSOCIATED:
        stored[..., :-1] *= stored[..., -1:]
    white = 1 if dtype not in (np.uint8, np.uint16) else np.iinfo(dtype).max
    stored = (stored * white if white == 1 else (stored * white).round()).astype(dtype)
    content = content_of(stored[..., 0] if channels == 1 else stored, extrasamples=[alpha] if alpha else None,
                         extratags=[(ORIENTATION, 'H', 1, orientation, True)])
    expected = upright(values, orientation)
    # float16 keeps 11 bits; of 8 bits, both product and alpha are rounded, the latter at least half of white.
    budget = 3 / 255 if dtype == np.uint8 else 1e-3
    colours = decode_image(content, 'a.tif')
    assert colours.shape == (*expected.shape[:2], 3)
    assert np.abs(colours - expected[..., :3 if channels > 2 else 1]).max() <= budget
    if alpha:
        found = decode_stored(content, 'a.tif')
        assert found.shape == (*expected.shape[:2], 4) and found.dtype == (np.float32 if white == 1 else dtype)
        assert np.abs(found[..., 3] / white - expected[..., -1]).max() <= budget
        assert np.abs(found[..., 2::-1] / white - expected[..., :-1]).max() <= budget


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_planes_are_put_together(dtype):
    image = (np.random.default_rng(0).random((3, 10, 20)) * (1 if dtype == np.float32 else 255)).astype(dtype)
    content = content_of(image, planarconfig='separate')
    white = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype]
    assert np.allclose(decode_image(content, 'a.tif'), image.transpose(1, 2, 0) / np.float32(white))


def test_colours_under_full_transparency_are_no_nan():
    pixels = np.zeros((4, 5, 4), np.uint16)
    assert (decode_stored(content_of(pixels, extrasamples=[ASSOCIATED]), 'a.tif') == 0).all()


@pytest.mark.parametrize('compression', ['tiff_lzw', 'tiff_adobe_deflate', 'packbits'])
def test_alpha_of_8_bits_is_read_however_it_is_compressed(compression):
    pixels = np.random.default_rng(0).integers(0, 256, (10, 20, 4), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'TIFF', compression=compression)
    assert np.array_equal(decode_stored(file.getvalue(), 'a.tif'), pixels[..., [2, 1, 0, 3]])


def test_a_compression_that_cannot_be_read_is_told_with_the_remedy(monkeypatch):
    def lacking(self):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, 'asarray', lacking)
    with pytest.raises(InputError, match=r'^a.tif: compressed by NONE, .*\(float32, 1 ch.* pip install imagecod'):
        decode_image(content_of(np.zeros((4, 5), np.float32)), 'a.tif')


def test_the_preview_of_a_raw_file_is_not_taken_for_the_photograph():
    with pytest.raises(InputError, match='^a.dng: its first page is a preview, as in raw files'):
        decode_image(content_of(np.zeros((4, 5, 3), np.uint8), subfiletype=1), 'a.dng')


@pytest.mark.parametrize('pixels, said', [
    (np.zeros((20, 24), np.uint32), '1 channel of uint32'), (np.zeros((20, 24, 5), np.uint8), '5 channels of uint8'),
    (np.zeros((20, 24), np.complex64), '1 channel of complex64')])
def test_pixels_of_other_kinds_are_told(pixels, said):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, photometric='minisblack', planarconfig='contig' if pixels.ndim == 3 else None)
    with pytest.raises(InputError, match=f'a.tif: a TIFF of {said} is not read here; convert it to grey or RGB of 8'):
        decode_image(file.getvalue(), 'a.tif')


def test_a_damaged_tiff_is_told(capfd):
    content = content_of(np.zeros((40, 50, 4), np.uint8), extrasamples=[UNASSOCIATED])
    for cut in (content[:6], content[:100], content[:-2000]):
        with pytest.raises(InputError, match='^a.tif: not an image, or a damaged one'):
            decode_image(cut, 'a.tif')
