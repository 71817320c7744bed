"""Small option files of both stages, run by commands, as models in this process, or by two processes."""
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from basicsr.models import build_model
from basicsr.utils.registry import ARCH_REGISTRY

from diffrwkvir_arch import cli

NETWORK = dict(scale=4, dim=16, groups=1, blocks=1, head_dim=4, prior_dim=16, encoder_dim=8, upsampler='direct')


def stage_options(stage, network, train_data, val_data, metrics, name=None, **train):
    """A small option file of one stage as a dict; stage 2 follows the stage 1 that it names by default.

    Args:
        network (dict): Options of network_g without its type.
        train_data, val_data (dict): Sections of datasets.
        metrics (dict): val.metrics.
        name (str | None): Of the run; stage1 or stage2 by default.
        train: More options of the section train.
    """
    opt = {
        'name': name or f'stage{stage}', 'model_type': f'DiffRWKVIRS{stage}Model', 'scale': network['scale'],
        'num_gpu': 0, 'manual_seed': 0,
        'datasets': {'train': {'use_hflip': True, 'use_rot': True, 'batch_size_per_gpu': 2, **train_data},
                     'val': {'name': 'val', **val_data}},
        'network_g': {'type': f'DiffRWKVIRS{stage}', **network},
        'path': {},
        'train': {'optim_g': {'type': 'Adam', 'lr': 1e-3}, 'total_iter': 2, 'pixel_opt': {'type': 'L1Loss'},
                  'scheduler': {'type': 'MultiStepLR', 'milestones': [1000], 'gamma': 0.1}, **train},
        'val': {'val_freq': 2, 'save_img': False, 'metrics': metrics},
        'logger': {'print_freq': 1, 'save_checkpoint_freq': 2},
    }
    if stage == 2:
        opt['path']['pretrain_network_s1'] = 'experiments/stage1/models/net_g_latest.pth'
        opt['train'].setdefault('kd_opt', {'type': 'KDL1Loss'})
    return opt


def options(stage, root, iterations=4, **train):
    """A small option file of one stage as a dict, on the pairs below root/data."""
    pairs = {'type': 'PairedImageDataset', 'dataroot_gt': str(root / 'data/GT'), 'dataroot_lq': str(root / 'data/LQ'),
             'io_backend': {'type': 'disk'}}
    adam = {'type': 'Adam', 'lr': 1e-3, 'betas': [0.9, 0.99]}
    kd = {'kd_opt': {'type': 'KDL1Loss', 'loss_weight': 0.1}} if stage == 2 else {}
    opt = stage_options(
        stage, NETWORK, {**pairs, 'gt_size': 32, 'dataset_enlarge_ratio': 4}, pairs,
        {'psnr': {'type': 'calculate_psnr', 'crop_border': 4, 'test_y_channel': True}},
        **{'ema_decay': 0.9, 'optim_g': adam, 'total_iter': iterations, **kd, **train})
    opt['val']['val_freq'], opt['logger']['use_tb_logger'] = 1000, True
    return opt


def basicsr(verb, opt, root, *flags):
    """Runs a verb in this process from the folder root; -> exit code."""
    path = root / f'{verb}_{opt["name"]}.yml'
    path.write_text(yaml.safe_dump(opt), encoding='utf-8')
    return cli.main([verb, '-opt', str(path), *flags])


def train_both(root, options):
    """Trains both stages in the folder root, by option files as `options` makes them of stage and root."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for stage in (1, 2):
            assert not basicsr('train', options(stage, root), root)


def weights(root, stage, key='params', label='latest'):
    return torch.load(root / f'experiments/stage{stage}/models/net_g_{label}.pth')[key]


def write_stages(root, network):
    """Checkpoints of both stages, untrained, whose moving average is another network."""
    for stage in (1, 2):
        arch = ARCH_REGISTRY.get(f'DiffRWKVIRS{stage}')
        nets = {key: arch(**network).state_dict() for key in ('params', 'params_ema')}
        folder = root / f'experiments/stage{stage}/models'
        folder.mkdir(parents=True)
        torch.save(nets, folder / 'net_g_latest.pth')


def run_model(opt, is_train=True):
    """A model of the option dict, as the pipelines build it."""
    opt = {**opt, 'is_train': is_train, 'dist': False, 'rank': 0, 'world_size': 1}
    opt['path'] = {**opt['path'], 'models': 'unused', 'training_states': 'unused'}
    for dataset in opt['datasets'].values():
        dataset.setdefault('phase', 'train')
    return build_model(opt)


def batch(n=2):
    torch.manual_seed(5)
    return {'lq': torch.rand(n, 3, 8, 8), 'gt': torch.rand(n, 3, 32, 32), 'lq_path': ['x'] * n}


def train_in_two_processes(module, path, function='sgd_options'):
    """The weights that two processes leave after two steps; see train_two_steps.py."""
    script = Path(__file__).parent / 'train_two_steps.py'
    subprocess.run([sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', str(script),
                    str(path), module, function], check=True, capture_output=True)
    return torch.load(path)
