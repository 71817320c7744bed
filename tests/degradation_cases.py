"""Degraded images, DegradationDatasets, small option files of both stages on them, and what their logs say."""
import re

from basicsr.data import build_dataset

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
    opt = {
        'name': name or f'stage{stage}', 'model_type': f'DiffRWKVIRS{stage}Model', 'scale': 1, 'num_gpu': 0,
        'manual_seed': 0,
        'datasets': {'train': {**data, 'gt_size': 24, 'use_hflip': True, 'use_rot': True, 'batch_size_per_gpu': 3},
                     'val': {'name': 'val', **data}},
        'network_g': {'type': f'DiffRWKVIRS{stage}', **NETWORK},
        'path': {},
        'train': {'optim_g': {'type': 'Adam', 'lr': 1e-3}, 'total_iter': 2, 'pixel_opt': {'type': 'L1Loss'},
                  'scheduler': {'type': 'MultiStepLR', 'milestones': [100], 'gamma': 0.1}},
        'val': {'val_freq': 2, 'metrics': {'psnr': {'type': 'calculate_psnr', 'crop_border': 0}}},
        'logger': {'print_freq': 1, 'save_checkpoint_freq': 2},
    }
    if stage == 2:
        opt['path']['pretrain_network_s1'] = 'experiments/stage1/models/net_g_latest.pth'
        opt['train']['kd_opt'] = {'type': 'KDL1Loss'}
    return opt


def logged_psnr(folder):
    return float(re.findall(r'# psnr: (\S+)', next(folder.glob('*.log')).read_text())[-1])
