"""Image operations of BasicSR that today's OpenCV refuses, and metrics: calls that cannot measure, what has a GT."""
import inspect
import math
import warnings

import basicsr.metrics
from basicsr.data import degradations
from basicsr.utils.registry import METRIC_REGISTRY

from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.option_sections import is_own
from diffrwkvir_arch.toolbox.patching import swap


def mend():
    """Applies the mends of this file."""
    mend_jpeg_quality()
    mend_calling_metrics()


def mend_jpeg_quality():
    """Fault: data/degradations.py:744 hands OpenCV a fractional JPEG quality, refused since OpenCV 4.5.5 (BasicSR#578).
    Mend: the nearest whole one.
    """

    def add_jpg_compression(img, quality=90):
        return add_jpg_compression.upstream(img, int(round(quality)))

    swap(degradations, 'add_jpg_compression', add_jpg_compression)


# The least side of what SSIM and PSNR can measure.
LEAST_SIDE = {'calculate_ssim': 11, 'calculate_psnr': 1}


def mend_calling_metrics():
    """Faults: metrics/__init__.py:18, PSNR on a SingleImageDataset ends in "missing 1 required positional argument:
    'img2'"; metrics/psnr_ssim.py:35 and 116, of an image within its crop_border SSIM ends in OpenCV's assertion.
    Mend: says which metric and what to do; and nan with a warning, as for all that cannot be measured.
    """

    def calculate_metric(data, opt):
        if 'img2' not in data and needs_gt(opt['type']):
            raise InputError(f'val.metrics: {opt["type"]} compares with a ground truth, and this dataset has none; '
                             'remove the metric or use PairedImageDataset with dataroot_gt')
        if opt['type'] in LEAST_SIDE:
            height, width = data['img'].shape[-2:] if opt.get('input_order') == 'CHW' else data['img'].shape[:2]
            least, border = LEAST_SIDE[opt['type']], opt['crop_border']
            if min(height, width) - 2 * border < least:
                warnings.warn(f'{opt["type"]} is nan: an image of {width}x{height} pixels has less than '
                              f'{least}x{least} inside crop_border: {border}', stacklevel=2)
                return math.nan
        return calculate_metric.upstream(data, opt)

    swap(basicsr.metrics, 'calculate_metric', calculate_metric)


def has_gt(options, cls):
    """Whether the items of a dataset have a GT, by its options and class; a user's own may call its folder anything."""
    return options.get('dataroot_gt') is not None or not is_own(cls)


def needs_gt(metric_type):
    """Whether a registered metric compares with a ground truth."""
    return 'img2' in inspect.signature(METRIC_REGISTRY.get(metric_type)).parameters
