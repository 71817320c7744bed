"""Image files to arrays: the one place where bytes become RGB floats in [0, 1]."""
import contextlib
import io
import re
import warnings

import cv2
import numpy as np
from PIL import Image

from diffrwkvir_arch.errors import InputError

EXTENSIONS = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm', '.pbm', '.jp2')

# The highest value of each kind of pixel.
WHITE = {np.dtype(np.uint8): 255., np.dtype(np.uint16): 65535., np.dtype(np.float32): 1.}

# Of a JPEG: all but those that stand among a scan's pixels, an escaped 255 and restarts.
MARKER, END = re.compile(rb'\xff([^\x00\x01\xd0-\xd8\xff])', re.DOTALL), b'\xd9'
# EXIF's tag.
ORIENTATION = 0x0112


def decode_image(content, name):
    """Decodes an image file.

    Grey becomes RGB, 16 bits keep their precision, the alpha channel is dropped, a photo is turned as its EXIF says.

    Args:
        content (bytes): The file.
        name (str): What to call it in an error message.

    Returns:
        numpy.ndarray: (H, W, 3) RGB float32 in [0, 1].
    """
    if not content:
        raise InputError(f'{name}: the image file is empty (0 bytes)')
    image = None if is_cut_short(content) else decode(content)
    if image is None:
        raise InputError(f'{name}: not an image, or a damaged one; replace or remove it')
    if image.dtype not in WHITE:
        raise InputError(f'{name}: pixels of type {image.dtype} are not supported; convert it to 8 or 16 bits')
    return as_floats(image)


def as_floats(image):
    """BGR in a file's depth -> RGB float32 in [0, 1]."""
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return image.astype(np.float32) / np.float32(WHITE[image.dtype])


def decode(content):
    """(H, W, 3) BGR in the file's depth, or None where OpenCV cannot read it."""
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error:
        return None


def is_cut_short(content):
    """Whether a PNG or JPEG lacks its end marker; OpenCV fills what is missing of such a file with grey or black."""
    if content.startswith(b'\x89PNG'):
        return b'IEND' not in content[-64:] and b'IEND' not in content
    if content.startswith(b'\xff\xd8'):
        return not reaches_end(content)
    return False


def reaches_end(jpeg):
    """Whether a JPEG's own markers lead to its end, whatever follows it, as the film of a motion photo does."""
    position = 2
    while found := MARKER.search(jpeg, position):
        if found[1] == END:
            return True
        # A segment, such as the header with the thumbnail, begins with its length; the pixels follow that of a scan.
        position = found.end() + int.from_bytes(jpeg[found.end():found.end() + 2], 'big')
    return False


def has_alpha(content):
    """Whether a PNG stores opacity beside its colours (colour types 4 and 6 of its header)."""
    return content.startswith(b'\x89PNG') and content[25:26] in (b'\x04', b'\x06')


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
    """An image file (bytes) as Pillow's, for what OpenCV does not tell."""
    with leniently(), Image.open(io.BytesIO(content)) as image:
        yield image


def turned(image, content):
    """An image (H, W, ...) that OpenCV has read with its alpha channel, turned as EXIF says; TIFFs it has turned."""
    try:
        with opened(content) as file:
            orientation = 1 if file.format == 'TIFF' else file.getexif().get(ORIENTATION, 1)
    except Exception:    # what Pillow cannot read stays as it is
        return image
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)
