"""RMSE and the spectral angle (SAM): the columns of the paper's Table 3 that BasicSR lacks.

Table 3's own RMSE is that of `(a - b)**2` on uint8 arrays, which wraps around at 256 and so comes out too small; the
one here is the true one and must not be set beside it. How the paper computed SAM could not be recovered.
"""
import numpy as np
from basicsr.utils.registry import METRIC_REGISTRY

from diffrwkvir_arch.errors import InputError

from .contract import basicsr_metric, prepare_pair


@METRIC_REGISTRY.register()
@basicsr_metric
def calculate_rmse(img, img2, crop_border, input_order='HWC', test_y_channel=False):
    """Root of the mean squared difference over pixels and channels, in grey levels.

    Args:
        img (ndarray): (H, W), (H, W, C) or (C, H, W); C channels; uint8 or float in [0, 255].
        img2 (ndarray): Of the same shape.
        crop_border (int): Pixels to leave out on each side.
        input_order (str): 'HWC' or 'CHW'.
        test_y_channel (bool): Compare BT.601 luma.

    Returns:
        float: In [0, 255], lower is better; nan with a warning where the border leaves nothing.

    Raises:
        InputError: Not two such images of one shape.
    """
    first, second = prepare_pair(img, img2, crop_border, input_order, test_y_channel, any_channels=True)
    return float(np.sqrt(np.mean((first - second)**2)))


@METRIC_REGISTRY.register()
@basicsr_metric
def calculate_sam(img, img2, crop_border, input_order='HWC', unit='degrees'):
    """Spectral angle mapper (Kruse et al. 1993): the angle between two pixels' colour vectors, averaged over the image.

    It ignores brightness: a vector and its multiple are at angle 0, as all but black pixels of grey images are. Black
    against black counts as 0, black against a colour as a right angle.

    Args:
        img (ndarray): (H, W), (H, W, C) or (C, H, W); C channels; uint8 or float in [0, 255].
        img2 (ndarray): Of the same shape.
        crop_border (int): Pixels to leave out on each side.
        input_order (str): 'HWC' or 'CHW'.
        unit (str): 'degrees' or 'radians'.

    Returns:
        float: In [0, 90] degrees, lower is better; nan with a warning where the border leaves nothing.

    Raises:
        InputError: Not two such images of one shape, or another unit.
    """
    if unit not in ('degrees', 'radians'):
        raise InputError(f'unit must be degrees or radians, got {unit!r}')
    first, second = map(_unit_vectors, prepare_pair(img, img2, crop_border, input_order, any_channels=True))
    # Kahan's form of arccos(u . v): it cannot leave arccos' domain, keeps small angles, and is right for zero vectors.
    angle = 2 * np.arctan2(np.linalg.norm(first - second, axis=2), np.linalg.norm(first + second, axis=2))
    mean = float(np.mean(angle))
    return mean if unit == 'radians' else float(np.degrees(mean))


def _unit_vectors(image):
    """(H, W, C) -> vectors of length 1 along C; zero vectors stay zero."""
    length = np.linalg.norm(image, axis=2, keepdims=True)
    return image / np.where(length > 0, length, 1)
