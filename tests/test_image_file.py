"""Image files: what is read how, and which are damaged."""
from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image

from diffrwkvir_arch.data.image_file import decode_image, reaches_end
from diffrwkvir_arch.errors import InputError


def test_a_jpeg_cut_short_is_refused(tmp_path):
    path = tmp_path / 'x.jpg'
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    whole = path.read_bytes()
    # As cameras do, a small image in the header, with an end of its own.
    header = b'\xff\xe1' + (len(whole) + 2).to_bytes(2, 'big') + whole
    with_thumbnail = whole[:2] + header + whole[2:]
    assert np.array_equal(decode_image(with_thumbnail, 'x'), decode_image(whole, 'x'))
    for content in (whole, with_thumbnail):
        with pytest.raises(InputError, match='damaged'):
            decode_image(content[:-400], str(path))


def test_what_follows_the_end_of_a_jpeg_is_no_part_of_it(tmp_path):
    path = tmp_path / 'motion.jpg'
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    whole = path.read_bytes()
    film = b'\0\0\0\x18ftypmp42 \xff\xda with no end'
    assert np.array_equal(decode_image(whole + film, 'x'), decode_image(whole, 'x'))
    with pytest.raises(InputError, match='damaged'):
        decode_image(whole[:-400], 'x')


@pytest.mark.parametrize('flags', [[cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]])
def test_scans_and_restarts_of_a_jpeg_are_walked_to_its_end(flags):
    content = cv2.imencode('.jpg', np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8), flags)[1].tobytes()
    assert reaches_end(content) and not any(map(reaches_end, (content[:-2], content[:len(content) // 2])))


def test_grey_becomes_rgb(tmp_path):
    path = tmp_path / 'grey.png'
    cv2.imwrite(str(path), np.full((4, 5), 51, np.uint8))
    image = decode_image(path.read_bytes(), str(path))
    assert image.shape == (4, 5, 3) and np.allclose(image, 0.2)


def test_sixteen_bits_keep_their_precision(tmp_path):
    path = tmp_path / 'deep.png'
    values = np.arange(60, dtype=np.uint16).reshape(4, 5, 3) * 1000 + 7
    cv2.imwrite(str(path), values)
    image = decode_image(path.read_bytes(), str(path))
    assert image.dtype == np.float32 and np.allclose(image, values[..., ::-1] / 65535, atol=1e-7)


def test_a_photo_is_turned_as_its_exif_says():
    file, exif = BytesIO(), Image.Exif()
    exif[0x112] = 6  # turn by 90 degrees
    Image.new('RGB', (8, 4)).save(file, 'jpeg', exif=exif)
    assert decode_image(file.getvalue(), 'photo').shape == (8, 4, 3)


def test_the_example_of_scikit_image_reads_as_scikit_image_reads_it(tmp_path):
    skimage_data = pytest.importorskip('skimage.data')
    picture = skimage_data.coffee()
    path = tmp_path / 'coffee.png'
    cv2.imwrite(str(path), picture[..., ::-1])
    assert np.array_equal((decode_image(path.read_bytes(), str(path)) * 255).round().astype(np.uint8), picture)
