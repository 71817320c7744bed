"""TIFF (https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf), which is EXIF with pixels behind it.

Pillow knows no colours of 16 bits, and OpenCV no metadata.
"""
import zlib

import numpy as np
from PIL.TiffTags import TAGS_V2

TAGS = {info.name: tag for tag, info in TAGS_V2.items()}
DEFLATE, DIFFERENCES, MIN_IS_BLACK, RGB, UNASSOCIATED = 8, 2, 1, 2, 2
# Rows that are compressed at once, and how: as PNGs, fast rather than small.
ROWS, LEVEL = 64, 1


def tiff(image, exif, profile):
    """The parts of a file.

    Args:
        image (ndarray): (H, W) or (H, W, 3 or 4) RGB with alpha, uint8 or uint16.
        exif (Exif): Gets the tags of the pixels.
        profile (bytes): ICC, or empty.
    """
    order = '<' if exif.endian == '<' else '>'
    strips = [compressed(image[top:top + ROWS], order) for top in range(0, len(image), ROWS)]
    sizes = [len(strip) for strip in strips]
    samples = 1 if image.ndim == 2 else image.shape[2]
    said = {
        'ImageWidth': image.shape[1],
        'ImageLength': image.shape[0],
        'BitsPerSample': (8 * image.itemsize, ) * samples,
        'Compression': DEFLATE,
        'PhotometricInterpretation': MIN_IS_BLACK if samples == 1 else RGB,
        'SamplesPerPixel': samples,
        'RowsPerStrip': ROWS,
        # From the end of the tags; Pillow adds where that is.
        'StripOffsets': tuple(map(int, np.cumsum([0, *sizes[:-1]]))),
        'StripByteCounts': tuple(sizes),
        'Predictor': DIFFERENCES,
        **({'ExtraSamples': UNASSOCIATED} if samples == 4 else {}),
        **({'ICCProfile': profile} if profile else {}),
    }
    exif.update({TAGS[name]: value for name, value in said.items()})
    return exif.tobytes().removeprefix(b'Exif\0\0'), *strips


def compressed(rows, order):
    """Deflated differences from pixel to pixel, in this order of bytes."""
    differences = np.concatenate([rows[:, :1], rows[:, 1:] - rows[:, :-1]], axis=1)
    return zlib.compress(differences.astype(differences.dtype.newbyteorder(order)), LEVEL)
