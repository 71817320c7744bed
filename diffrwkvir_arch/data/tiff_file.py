"""TIFFs that OpenCV misreads: it multiplies colours by their alpha or leaves that out, knows floats in three channels
alone, and mixes up planes of more than 8 bits."""
import io

import cv2
import numpy as np
import tifffile
from PIL import ImageOps
from tifffile import EXTRASAMPLE, PHOTOMETRIC, PLANARCONFIG

from diffrwkvir_arch.data.pillow_file import opened, oriented
from diffrwkvir_arch.errors import InputError, counted

SIGNATURES = b'II*\0', b'MM\0*', b'II+\0', b'MM\0+'


def read_odd_tiff(content, name):
    """The first page of a TIFF that OpenCV would misread; None of any other file.

    Args:
        content (bytes): The file.
        name (str): What to call it in an error message.

    Returns:
        ndarray | None: Upright, (H, W), or (H, W, 3 or 4) BGR with alpha, which nothing is multiplied by; uint8, uint16
        or float32.

    Raises:
        InputError: It is a preview of a raw file, or compressed as tifffile alone cannot read.
    """
    if not content.startswith(SIGNATURES):
        return None
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            page = file.pages.first
            if page.is_reduced:
                raise InputError(f'{name}: its first page is a preview, as in raw files of cameras; develop it to '
                                 'TIFF or JPEG')
            if is_odd(page):
                return pixels_of(page, content, name)
    except InputError:
        raise
    except Exception:    # OpenCV says whether it is damaged
        pass
    return None


def foreign_pixels(content):
    """What a TIFF's pixels are, for a message, where nothing here reads their kind; None of any other file."""
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            page = file.pages.first
            known = page.dtype.kind == 'f' or page.dtype in (np.uint8, np.uint16)
            if known and (page.samplesperpixel in (1, 3, 4) or has_alpha(page)):
                return None
            return (f'a TIFF of {counted(page.samplesperpixel, "channel")} of {page.dtype} is not read here; convert '
                    'it to grey or RGB of 8 or 16 bits')
    except Exception:
        return None


def is_odd(page):
    """Whether OpenCV misreads tifffile's page."""
    if page.photometric not in (PHOTOMETRIC.RGB, PHOTOMETRIC.MINISBLACK):
        return False
    if page.planarconfig == PLANARCONFIG.SEPARATE and page.samplesperpixel > 1 and page.dtype != np.uint8:
        return True
    kind = page.dtype, page.samplesperpixel, *page.extrasamples
    if has_alpha(page):
        return kind != (np.uint16, 4, EXTRASAMPLE.UNASSALPHA)
    return page.dtype.kind == 'f' and kind != (np.float32, 3)


def has_alpha(page):
    return page.extrasamples in ((EXTRASAMPLE.ASSOCALPHA, ), (EXTRASAMPLE.UNASSALPHA, ))


def pixels_of(page, content, name):
    """As read_odd_tiff's, of tifffile's page."""
    if has_alpha(page) and page.dtype == np.uint8:
        with opened(content) as image:    # which knows more compressions
            return cv2.cvtColor(np.array(ImageOps.exif_transpose(image).convert('RGBA')), cv2.COLOR_RGBA2BGRA)
    try:
        pixels = page.asarray()
    except ValueError as error:
        raise InputError(f'{name}: compressed by {page.compression.name}, and such pixels ({page.dtype}, '
                         f'{page.samplesperpixel} channels) need imagecodecs: pip install imagecodecs') from error
    if page.dtype.kind == 'f':
        pixels = pixels.astype(np.float32)
    if page.planarconfig == PLANARCONFIG.SEPARATE and pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, -1)
    pixels = oriented(pixels, page.tags.valueof('Orientation', 1))
    if pixels.ndim == 2:
        return pixels
    if not has_alpha(page):
        return np.ascontiguousarray(pixels[..., ::-1])
    colours, alpha = pixels[..., :-1], pixels[..., -1:]
    if page.extrasamples[0] == EXTRASAMPLE.ASSOCALPHA:
        colours = divided(colours, alpha)
    bgr = np.repeat(colours, 3, axis=2) if colours.shape[2] == 1 else colours[..., ::-1]
    return np.concatenate([bgr, alpha], axis=2)


def divided(colours, alpha):
    """Colours that were multiplied by their alpha, as they were; black where that is 0."""
    ratio = np.divide(colours, alpha, out=np.zeros(colours.shape, np.float32), where=alpha > 0)
    if alpha.dtype.kind == 'f':
        return ratio
    white = np.iinfo(alpha.dtype).max
    return (ratio * white).round().clip(0, white).astype(colours.dtype)
