"""Degraded images, DegradationDatasets, small option files of both stages on them, and what their logs say."""
import re

from basicsr.data import build_dataset
from two_stage_cases import stage_options

from diffrwkvir_arch.data.degradations import build_degradations

NOISE = {'type': 'gaussian_noise', 'sigma': 25}
NETWORK = dict(scale=1, dim=16, groups=1, blocks=1, head_dim=4, prior_dim=16, encoder_dim=8, upsampler='direct')


def apply(image, *sections):
    for degradation in build_degradations('degradation', list(sections)):
        image = degradation(image)
    return image


def dataset_of(images, **options):
    """A DegradationDataset of a folder; a value None takes an option out."""
    given = {'name': 'some', 'type': 'DegradationDataset', 'phase': 'val', 'dataroot_gt': str(images), **options}
    return build_dataset({key: value for key, value in given.items() if value is not None})


def options_of(stage, images, name=None, **data):
    """A small option file of one stage."""
    data = {'type': 'DegradationDataset', 'dataroot_gt': str(images), 'degradation': NOISE, **data}
    return stage_options(stage, NETWORK, {**data, 'gt_size': 24, 'batch_size_per_gpu': 3}, data,
                         {'psnr': {'type': 'calculate_psnr', 'crop_border': 0}}, name)


def logged_psnr(folder):
    return float(re.findall(r'# psnr: (\S+)', next(folder.glob('*.log')).read_text())[-1])
