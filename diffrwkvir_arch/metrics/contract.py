"""What BasicSR's validation and a metric may expect of each other: arguments, shapes, and nan for the unmeasurable.

A wrong call (shapes that differ, an unknown option, a missing file) is an InputError. An image that is too small or too
flat to be measured is none: it gives nan and a warning with the reason, so that it cannot end a training.
"""
import functools
import math
import warnings

import numpy as np
from basicsr.metrics.metric_util import to_y_channel

from diffrwkvir_arch.errors import InputError


class Unmeasurable(Exception):
    """The metric is not defined on this image; the message says why."""


def basicsr_metric(metric):
    """Decorator: Unmeasurable becomes nan; the signature that option files are checked against stays."""

    @functools.wraps(metric)
    def measure(*args, **options):
        try:
            return metric(*args, **options)
        except Unmeasurable as reason:
            warnings.warn(f'{metric.__name__} is nan: {reason}', stacklevel=2)
            return math.nan

    return measure


def prepare(img, crop_border, input_order='HWC', name='img', any_channels=False):
    """Brings an image to one layout and crops it.

    Args:
        img (ndarray): (H, W), (H, W, C) or, in the order CHW, (C, H, W); C is 1 or 3 (BGR); uint8 or float in [0, 255].
        crop_border (int): Pixels to leave out on each side.
        input_order (str): 'HWC' or 'CHW'; says nothing about (H, W).
        name (str): What to call the image in an error message.
        any_channels (bool): Whether C may be another number than 1 or 3.

    Returns:
        ndarray: (h, w, C) of the same type.

    Raises:
        InputError: Not such an image.
        Unmeasurable: The crop leaves nothing of it.
    """
    if input_order not in ('HWC', 'CHW'):
        raise InputError(f'input_order must be HWC or CHW, got {input_order!r}')
    if not isinstance(crop_border, (int, np.integer)) or crop_border < 0:
        raise InputError(f'crop_border must be a whole number of pixels, at least 0, got {crop_border!r}')
    if not isinstance(img, np.ndarray) or not (img.dtype == np.uint8 or np.issubdtype(img.dtype, np.floating)):
        kind = f'an array of {img.dtype}' if isinstance(img, np.ndarray) else type(img).__name__
        raise InputError(f'{name} must be a numpy array of uint8 or float in [0, 255], got {kind}')
    image = img.transpose(1, 2, 0) if img.ndim == 3 and input_order == 'CHW' else img
    if image.ndim == 2:
        image = image[..., None]
    # Where three or one come first, the order is the other one.
    can_be = any_channels and image.ndim == 3 and image.shape[0] not in (1, 3)
    if not can_be and (image.ndim != 3 or image.shape[2] not in (1, 3)):
        raise InputError(f'{name} must be (H, W) or {input_order} with 1 or 3 channels, got shape {img.shape}; '
                         'input_order says where the channels are')
    height, width = image.shape[:2]
    if min(height, width) <= 2 * crop_border:
        raise Unmeasurable(f'{name} of {height}x{width} pixels has nothing inside a border of {crop_border}')
    return image[crop_border:height - crop_border, crop_border:width - crop_border]


def prepare_pair(img, img2, crop_border, input_order='HWC', test_y_channel=False, any_channels=False):
    """Two images as `prepare` takes them, of one size -> float64 (h, w, C) twice, in [0, 255].

    With test_y_channel C is 1: BT.601 luma, 16 to 235, of a colour image, as in BasicSR's PSNR; others as they are.
    """
    first, second = (prepare(image, crop_border, input_order, name, any_channels)
                     for image, name in ((img, 'img'), (img2, 'img2')))
    if first.shape != second.shape:
        raise InputError(f'img and img2 differ in shape: {img.shape} and {img2.shape}')
    if test_y_channel:
        first, second = to_y_channel(first), to_y_channel(second)
    return first.astype(np.float64), second.astype(np.float64)
