"""Image files as Pillow opens them, for what OpenCV does not tell."""
import contextlib
import io
import warnings

import numpy as np
from PIL import ExifTags, Image


@contextlib.contextmanager
def leniently():
    """Lets Pillow open large images, too, and say nothing of odd EXIF: OpenCV has decoded them before."""
    highest, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = highest


@contextlib.contextmanager
def opened(content):
    """An image file (bytes) as Pillow's."""
    with leniently(), Image.open(io.BytesIO(content)) as image:
        yield image


def turned(image, content):
    """An image (H, W, ...) that OpenCV has read with its alpha channel, turned as EXIF says; TIFFs it has turned."""
    try:
        with opened(content) as file:
            orientation = 1 if file.format == 'TIFF' else file.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:    # what Pillow cannot read stays as it is
        return image
    return oriented(image, orientation)


def oriented(image, orientation):
    """An image (H, W, ...), turned as EXIF's orientation says."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)
