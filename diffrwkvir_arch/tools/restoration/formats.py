"""The formats of what `basicsr restore` writes: what they can hold, how they are written, where the record is."""
import io
import json
from functools import partial
from typing import NamedTuple, Optional

import cv2
from PIL import Image

from diffrwkvir_arch.errors import InputError

from ..preparation.pieces import write_png, write_whole
from . import png
from .metadata import metadata_of
from .record import KEYWORD
from .tiff import tiff

# A segment of a JPEG, such as EXIF.
JPEG_SEGMENT = 65533
# Every pixel stays as it is, under alpha too, in two thirds of a PNG's bytes; Pillow's own effort takes 7 times as long
# for 2 %.
# Lossy WebP would halve the resolution of colours; who wants small files takes JPEG.
WEBP = {'lossless': True, 'exact': True, 'quality': 0, 'method': 1}
JPEG = {'quality': 95, 'subsampling': '4:4:4'}


def write_as_png(path, image, metadata, said):
    """The record is a text."""
    chunks = [png.text(KEYWORD, said)]
    if metadata.profile:
        chunks.append(png.colour_profile(metadata.profile))
    if metadata.dpi:
        chunks.append(png.resolution(*metadata.dpi))
    if metadata.exif:
        chunks.append(png.exif(metadata.exif))
    write_png(path, image, chunks)


def write_as_jpeg(path, image, metadata, said):
    exif = metadata.signed(f'{KEYWORD} {said}')
    if len(exif.tobytes()) > JPEG_SEGMENT:    # by a camera's own notes
        exif = metadata._replace(exif=b'').signed(f'{KEYWORD} {said}')
    write_by_pillow(path, image[..., :3] if image.ndim == 3 else image, metadata, format='JPEG', exif=exif, **JPEG,
                    **({'dpi': metadata.dpi} if metadata.dpi else {}))


def write_as_webp(path, image, metadata, said):
    write_by_pillow(path, image, metadata, format='WEBP', exif=metadata.signed(f'{KEYWORD} {said}'), **WEBP)


def write_as_tiff(path, image, metadata, said):
    write_whole(path, tiff(as_rgb(image), metadata.signed(f'{KEYWORD} {said}'), metadata.profile))


def write_by_pillow(path, image, metadata, **options):
    file = io.BytesIO()
    Image.fromarray(as_rgb(image)).save(file, icc_profile=metadata.profile or None, **options)
    write_whole(path, [file.getbuffer()])


def as_rgb(image):
    """BGR with or without alpha -> RGB; grey stays."""
    if image.ndim == 2:
        return image
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)


class Format(NamedTuple):
    """bits, of a channel at most; alpha, grey: whether it holds these; side, bytes: at most, these uncompressed."""
    name: str
    write: callable    # (path, image, Metadata, record as text)
    bits: int = 16
    alpha: bool = True
    grey: bool = True
    side: Optional[int] = None
    bytes: Optional[int] = None

    def lacks(self, picture, scale):
        """What a result of this picture needs and the format does not have, in words; '' where nothing."""
        height, width = picture.size_at(scale)
        bits = 16 if picture.white > 255 else 8
        if bits > self.bits:
            return f'{bits} bits'
        if picture.hides and not self.alpha:
            return 'alpha'
        if self.side and max(height, width) > self.side:
            return f'{width}x{height}: its sides are {self.side} at most'
        channels = 4 if picture.alpha is not None else 1 if picture.is_grey else 3
        if self.bytes and height * width * channels * bits // 8 > self.bytes:
            return f'{width}x{height}: it takes {self.bytes // 10 ** 9} GB at most'
        return ''


FORMATS = {
    'png': Format('PNG', write_as_png),
    # The highest side is libjpeg's.
    'jpg': Format('JPEG', write_as_jpeg, bits=8, alpha=False, side=65500),
    'webp': Format('WebP', write_as_webp, bits=8, grey=False, side=16383),
    # Offsets of 32 bits reach a little farther, by what noise may grow when it is compressed.
    'tif': Format('TIFF', write_as_tiff, bytes=4 * 10 ** 9),
}


def refuse_unfit_format(picture, scale, name):
    """Raises InputError where a format cannot hold what a picture becomes.

    Args:
        picture (Picture); scale (float): Output side over input side; name (str): Of FORMATS.
    """
    lacking = FORMATS[name].lacks(picture, scale)
    if lacking:
        others = ' or '.join(other for other, format in FORMATS.items() if not format.lacks(picture, scale))
        raise InputError(f'{picture.path}: {FORMATS[name].name} cannot hold {lacking}; use --format {others}')


def writing(path, image, content, record, name):
    """What writes a result, a function without arguments for any thread: Pillow reads the file on this one alone.

    Args:
        path (Path)
        image (ndarray): As Picture.like_this makes it.
        content (bytes): The image file that it was made from.
        record (dict): What else it was made from.
        name (str): Of FORMATS.
    """
    format = FORMATS[name]
    return partial(format.write, path, image, metadata_of(content, format.grey and image.ndim == 2), json.dumps(record))
