"""Image operations of BasicSR that today's OpenCV refuses, and metrics: calls that cannot measure, what has a GT."""
import math
import warnings

import basicsr.metrics
from basicsr.data import degradations
from basicsr.utils.registry import METRIC_REGISTRY

from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.option_sections import is_own
from diffrwkvir_arch.signatures import parameters_of, takes_anything
from diffrwkvir_arch.toolbox.patching import swap
from diffrwkvir_arch.toolbox.registries import refuse_uncallable


def mend_jpeg_quality():
    """Fault: data/degradations.py:744 hands OpenCV a fractional JPEG quality, refused since OpenCV 4.5.5 (BasicSR#578).
    Mend: the nearest whole one.
    """

    def add_jpg_compression(img, quality=90):
        return add_jpg_compression.upstream(img, int(round(quality)))

    swap(degradations, 'add_jpg_compression', add_jpg_compression)


# Whether a metric takes it or not: the GT, the mask, and `better`.
HANDED_TO_ALL = ('img2', 'mask', 'better')
# The least side of what SSIM and PSNR can measure.
LEAST_SIDE = {'calculate_ssim': 11, 'calculate_psnr': 1}


def mend_calling_metrics():
    """Faults: metrics/__init__.py:18, PSNR on a SingleImageDataset ends in "missing 1 required positional argument:
    'img2'"; metrics/psnr_ssim.py:35 and 116, of an image within its crop_border SSIM ends in OpenCV's assertion;
    models/sr_model.py:188 hands every metric the GT, and `better`, which only ranks checkpoints: one that does not take
    them, or another option, ends in a TypeError.
    Mend: says which metric and what to do; nan with a warning, as for all that cannot be measured; what is handed to
    all is left out where a metric does not take it.
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
        data, opt = ({key: value for key, value in given.items() if key not in HANDED_TO_ALL or
                      takes(opt['type'], key)} for given in (data, opt))
        refuse_uncallable(METRIC_REGISTRY, opt, data)
        return calculate_metric.upstream(data, opt)

    swap(basicsr.metrics, 'calculate_metric', calculate_metric)


def takes(metric_type, argument):
    """Whether a registered metric may be called with an argument of that name."""
    metric = METRIC_REGISTRY.get(metric_type)
    return argument in parameters_of(metric) or takes_anything(metric)


def has_gt(options, cls):
    """Whether the items of a dataset have a GT, by its options and class; a user's own may call its folder anything."""
    return options.get('dataroot_gt') is not None or not is_own(cls)


def needs_gt(metric_type):
    """Whether a registered metric compares with a ground truth."""
    return 'img2' in parameters_of(METRIC_REGISTRY.get(metric_type))
