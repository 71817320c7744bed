"""PSNR and SSIM inside the hole of an inpainted image: over the whole image, known pixels drown what was painted."""
import numpy as np
from basicsr.utils.registry import METRIC_REGISTRY
from skimage.metrics import structural_similarity

from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.signatures import parameters_of

from .contract import Unmeasurable, basicsr_metric, prepare_pair

# Wang et al. 2004: a Gaussian window of 11x11 pixels with standard deviation 1.5, so 5 pixels to each side.
SIGMA, RADIUS = 1.5, 5


def takes_mask(metric_type):
    """Whether a registered metric is one of the hole."""
    return 'mask' in parameters_of(METRIC_REGISTRY.get(metric_type))


@METRIC_REGISTRY.register()
@basicsr_metric
def calculate_hole_psnr(img, img2, crop_border, mask=None, input_order='HWC', test_y_channel=False):
    """Peak signal-to-noise ratio over the pixels of the hole.

    Args:
        img (ndarray): (H, W), (H, W, C) or (C, H, W); C channels; uint8 or float in [0, 255].
        img2 (ndarray): Of the same shape.
        crop_border (int): Pixels to leave out on each side.
        mask (ndarray): (H, W), 1 in the hole, 0 where the image is known; it comes with the image from the model.
        input_order (str): 'HWC' or 'CHW'.
        test_y_channel (bool): Compare BT.601 luma.

    Returns:
        float: In dB, higher is better; inf where the hole is restored exactly; nan with a warning where there is none.

    Raises:
        InputError: Not two such images of one shape, or no such mask.
    """
    first, second = prepare_pair(img, img2, crop_border, input_order, test_y_channel, any_channels=True)
    squared = (first - second)[_hole(mask, first, crop_border)]**2
    if squared.size == 0:
        raise Unmeasurable('the mask has no hole inside the border')
    mean = squared.mean()
    return float(10 * np.log10(255**2 / mean)) if mean else float('inf')


@METRIC_REGISTRY.register()
@basicsr_metric
def calculate_hole_ssim(img, img2, crop_border, mask=None, input_order='HWC', test_y_channel=False):
    """Structural similarity, averaged over the windows that have their centre in the hole.

    A window of 11x11 reaches up to 5 pixels into what is known. As in BasicSR's SSIM, windows lie wholly inside the
    image and colours count alike; with a mask of ones, this is BasicSR's SSIM.

    Args:
        img, img2, crop_border, mask, input_order, test_y_channel: As for calculate_hole_psnr.

    Returns:
        float: In [-1, 1], higher is better; nan with a warning where no window has its centre in the hole.

    Raises:
        InputError: Not two such images of one shape, or no such mask.
    """
    first, second = prepare_pair(img, img2, crop_border, input_order, test_y_channel, any_channels=True)
    hole = _hole(mask, first, crop_border)[RADIUS:-RADIUS, RADIUS:-RADIUS]
    if not hole.any():
        raise Unmeasurable(f'no 11x11 window inside the {"x".join(map(str, first.shape[:2]))} pixels has its centre in '
                           'the hole')
    _, ssim = structural_similarity(first, second, gaussian_weights=True, sigma=SIGMA, use_sample_covariance=False,
                                    data_range=255, channel_axis=2, full=True)
    return float(ssim[RADIUS:-RADIUS, RADIUS:-RADIUS][hole].mean())


def _hole(mask, cropped, crop_border):
    """The mask as bool, cropped as the image was."""
    if mask is None:
        raise InputError('no mask came with the image: hole metrics need an inpainting dataset and model')
    mask = np.asarray(mask)
    height, width = (side + 2 * crop_border for side in cropped.shape[:2])
    if mask.shape != (height, width):
        raise InputError(f'mask must be (H, W) of the image, ({height}, {width}), got shape {mask.shape}')
    if not np.isin(mask, (0, 1)).all():
        raise InputError(f'mask must be 1 in the hole and 0 elsewhere, got values from {mask.min()} to {mask.max()}')
    return mask[crop_border:height - crop_border, crop_border:width - crop_border].astype(bool)
