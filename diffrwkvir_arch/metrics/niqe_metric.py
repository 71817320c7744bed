"""NIQE (Mittal et al. 2013) as BasicSR computes it, without its crash on images that are small or flat."""
import math
import warnings

import numpy as np
from basicsr.metrics.niqe import calculate_niqe as basicsr_niqe
from basicsr.utils.registry import METRIC_REGISTRY

from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.registration import register_instead

from .contract import Unmeasurable, basicsr_metric, prepare

# The blocks of which NIQE takes its statistics; a covariance needs two.
BLOCK = 96


@register_instead(METRIC_REGISTRY)
@basicsr_metric
def calculate_niqe(img, crop_border, input_order='HWC', convert_to='y'):
    """Distance of an image's statistics to those of pristine photographs; takes the place of BasicSR's, equal to it.

    BasicSR's ends a validation with RuntimeError or LinAlgError where the image has less than two blocks of 96x96
    pixels that are not flat, and cannot take grey images with convert_to 'gray'.

    Args:
        img (ndarray): (H, W), (H, W, C) or (C, H, W); C is 1 or 3 (BGR); uint8 or float in [0, 255].
        crop_border (int): Pixels to leave out on each side; it changes the value noticeably, so report it.
        input_order (str): 'HWC' or 'CHW'.
        convert_to (str): 'y' (BT.601 luma, what the reference code uses) or 'gray'.

    Returns:
        float: Lower is better; nan with a warning where the image is too small or too flat.

    Raises:
        InputError: Not such an image, or another convert_to.
    """
    if convert_to not in ('y', 'gray'):
        raise InputError(f'convert_to must be y or gray, got {convert_to!r}')
    image = prepare(img, crop_border, input_order)
    height, width, channels = image.shape
    if (height // BLOCK) * (width // BLOCK) < 2:
        raise Unmeasurable(f'{height}x{width} pixels inside the border hold less than two blocks of {BLOCK}x{BLOCK}')
    # Flat blocks have no statistics: NumPy warns of each, and NIQE leaves them out.
    with warnings.catch_warnings(), np.errstate(all='ignore'):
        warnings.simplefilter('ignore', RuntimeWarning)
        try:
            value = (basicsr_niqe(image[..., 0], 0, 'HW') if channels == 1 else
                     basicsr_niqe(image, 0, 'HWC', convert_to))
        except np.linalg.LinAlgError:
            value = math.nan
    if not math.isfinite(value):
        raise Unmeasurable(f'less than two blocks of {BLOCK}x{BLOCK} in the {height}x{width} pixels are not flat')
    return value
