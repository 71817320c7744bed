"""Image operations of BasicSR that today's OpenCV refuses, and metrics without a ground truth."""
import inspect

import basicsr.metrics
from basicsr.data import degradations
from basicsr.utils.registry import METRIC_REGISTRY

from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.toolbox.patching import swap


def mend():
    """Applies the mends of this file."""
    mend_jpeg_quality()
    mend_metric_without_gt()


def mend_jpeg_quality():
    """Fault: data/degradations.py:744 hands OpenCV a fractional JPEG quality, refused since OpenCV 4.5.5 (BasicSR#578).
    Mend: the nearest whole one.
    """

    def add_jpg_compression(img, quality=90):
        return add_jpg_compression.upstream(img, int(round(quality)))

    swap(degradations, 'add_jpg_compression', add_jpg_compression)


def mend_metric_without_gt():
    """Fault: metrics/__init__.py:18, PSNR on a SingleImageDataset ends in "missing 1 required positional argument:
    'img2'".
    Mend: says which metric and what to do.
    """

    def calculate_metric(data, opt):
        if 'img2' not in data and needs_gt(opt['type']):
            raise InputError(f'val.metrics: {opt["type"]} compares with a ground truth, and this dataset has none; '
                             'take the metric out or use PairedImageDataset with dataroot_gt')
        return calculate_metric.upstream(data, opt)

    swap(basicsr.metrics, 'calculate_metric', calculate_metric)


def needs_gt(metric_type):
    """Whether a registered metric compares with a ground truth."""
    return 'img2' in inspect.signature(METRIC_REGISTRY.get(metric_type)).parameters
