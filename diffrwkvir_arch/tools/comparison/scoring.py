"""One image's scores: PSNR and SSIM in both protocols, RMSE, SAM, LPIPS and NIQE, as far as they work here."""
import math
import warnings

import cv2
import numpy as np
from basicsr.metrics import calculate_metric

from diffrwkvir_arch.errors import InputError, did_you_mean
from diffrwkvir_arch.metrics.protocols import protocol_metrics
from diffrwkvir_arch.toolbox.images import needs_gt

PROBE_SIZE = 256


def known_metrics(scale):
    """Name -> options as in val.metrics, in the order of the tables."""
    return {
        **protocol_metrics('y_border', scale),
        **protocol_metrics('rgb', scale),
        'rmse': {'type': 'calculate_rmse', 'crop_border': 0},
        'sam': {'type': 'calculate_sam', 'crop_border': 0, 'unit': 'degrees'},
        'lpips_alex': {'type': 'calculate_lpips', 'crop_border': 0, 'net': 'alex'},
        'niqe': {'type': 'calculate_niqe', 'crop_border': scale},
    }


def describe(scale):
    """What the names mean, in one line."""
    return (f'Metrics, on 8-bit images: psnr_y and ssim_y on BT.601 Y without {scale} pixels of border (protocol '
            'y_border), psnr_rgb and ssim_rgb on whole RGB images (protocol rgb), rmse on RGB in grey levels, sam in '
            f'degrees, lpips_alex on RGB, niqe on Y without {scale} pixels of border')


def choose_metrics(names, scale):
    """The metrics of --metrics.

    Args:
        names (list of str | None): None for all.

    Returns:
        dict: Name -> options.

    Raises:
        InputError: An unknown name.
    """
    known = known_metrics(scale)
    for name in names or []:
        if name not in known:
            raise InputError(f"--metrics: unknown metric '{name}'{did_you_mean(name, known)}; there are "
                             f'{", ".join(known)}')
    return {name: options for name, options in known.items() if not names or name in names}


def usable_metrics(metrics):
    """Tries each metric on noise.

    Returns:
        tuple: The metrics that work here, and name -> why for the others, such as one whose weights are not there.
    """
    noise = np.random.default_rng(0).integers(0, 256, (2, PROBE_SIZE, PROBE_SIZE, 3), dtype=np.uint8)
    usable, unusable = {}, {}
    for name, options in metrics.items():
        try:
            calculate_metric({'img': noise[0], 'img2': noise[1]}, options)
        except (InputError, ImportError, OSError) as error:
            unusable[name] = str(error).splitlines()[0]
        else:
            usable[name] = options
    return usable, unusable


def score(restored, gt, metrics):
    """Scores one image.

    Args:
        restored (ndarray): BGR uint8 (H, W, 3).
        gt (ndarray | None): Likewise; without it only metrics that need none are measured.
        metrics (dict): Name -> options.

    Returns:
        dict: Name -> float, or None where the metric is not defined on this image.
    """
    scores = {}
    for name, options in metrics.items():
        value = math.nan
        if gt is not None:
            value = measure({'img': restored, 'img2': gt}, options)
        elif not needs_gt(options['type']):
            value = measure({'img': restored}, options)
        scores[name] = None if math.isnan(value) else value
    return scores


def measure(images, options):
    with warnings.catch_warnings():
        # Of images too small for NIQE or LPIPS: the tables show a dash.
        warnings.simplefilter('ignore')
        try:
            return float(calculate_metric(images, options))
        except cv2.error:
            # BasicSR's SSIM filters what the border leaves, which may be nothing.
            return math.nan
