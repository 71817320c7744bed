"""Image files to arrays: the one place where bytes become RGB floats in [0, 1]."""
import re

import cv2
import numpy as np

from diffrwkvir_arch.data.pillow_file import turned
from diffrwkvir_arch.data.tiff_file import foreign_pixels, read_odd_tiff
from diffrwkvir_arch.errors import InputError

EXTENSIONS = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm', '.pbm', '.jp2')

# The highest value of each kind of pixel.
WHITE = {np.dtype(np.uint8): 255., np.dtype(np.uint16): 65535., np.dtype(np.float32): 1.}

# Of a JPEG: all but those that stand among a scan's pixels, an escaped 255 and restarts.
MARKER, END = re.compile(rb'\xff([^\x00\x01\xd0-\xd8\xff])', re.DOTALL), b'\xd9'
# How files begin that users have and that are not read here.
FOREIGN = {'HEIC': rb'....ftyp(hei|hev|mif|msf)', 'JPEG XL': rb'\xff\x0a|....JXL ', 'Photoshop': rb'8BPS'}


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
    image = None if is_cut_short(content) else decode(content, name)
    if image is None:
        raise InputError(f'{name}: {foreign_kind(content) or "not an image, or a damaged one; replace or remove it"}')
    if image.dtype not in WHITE:
        raise InputError(f'{name}: pixels of type {image.dtype} are not supported; convert it to 8 or 16 bits')
    return as_floats(image)


def as_floats(image):
    """BGR in a file's depth -> RGB float32 in [0, 1]."""
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return image.astype(np.float32) / np.float32(WHITE[image.dtype])


def decode(content, name):
    """(H, W, 3) BGR in the file's depth, or None where it cannot be read."""
    stored = read_odd_tiff(content, name)
    if stored is not None:
        return cv2.cvtColor(stored, cv2.COLOR_GRAY2BGR) if stored.ndim == 2 else stored[..., :3]
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error:
        return None


def decode_stored(content, name):
    """Of a file that decode_image reads: (H, W), or (H, W, 3 or 4) BGR in its depth; with alpha it is upright."""
    stored = read_odd_tiff(content, name)
    if stored is not None:
        return stored
    stored = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    # OpenCV turns colours alone as EXIF says, and reads grey with alpha as equal colours with alpha.
    return turned(stored, content) if stored.ndim == 3 and stored.shape[2] == 4 else stored


def foreign_kind(content):
    """What an image file of another kind is, for a message; None where it is not known."""
    kind = next((kind for kind, start in FOREIGN.items() if re.match(start, content, re.DOTALL)), None)
    return f'{kind} is not read here; convert it to JPEG, PNG or TIFF' if kind else foreign_pixels(content)


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
