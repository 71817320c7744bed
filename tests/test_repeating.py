"""Seeds make runs repeat: one that was ended and resumed is the one that went through, bit for bit."""
import copy
import logging
import os
import random
import time

import basicsr.train
import cv2
import numpy as np
import pytest
import torch
from basicsr.data import build_dataloader
from basicsr.models import build_model
from basicsr.models.sr_model import SRModel

from diffrwkvir_arch.cli import main
from diffrwkvir_arch.draws import drawn_for, going_on, seed_all
from diffrwkvir_arch.toolbox import repeating
from diffrwkvir_arch.toolbox.loading import SeededSampler
from diffrwkvir_arch.toolbox.stopping import stop_request
from checkpoint_cases import assert_same
from loading_cases import Draws

# Nine iterations an epoch.
TRAIN = {'dataset_enlarge_ratio': 3, 'num_worker_per_gpu': 2}
DATASETS = {
    'PairedImageDataset': {},
    'DegradationDataset': {'degradation': [{'type': 'bicubic'}, {'type': 'gaussian_noise', 'sigma': [0, 50]},
                                           {'type': 'jpeg', 'quality': [30, 95]}]},
    'InpaintingDataset': {'mask': {'preset': 'box'}},
}


# ----- whole runs -----


@pytest.fixture
def swinir(options):
    """SwinIR, whose blocks drop out at random, trained for twelve iterations; checkpoints after 4 and 8."""
    options['network_g'] = {'type': 'SwinIR', 'upscale': 2, 'img_size': 8, 'window_size': 4, 'embed_dim': 8,
                            'depths': [2], 'num_heads': [2], 'mlp_ratio': 1, 'upsampler': 'pixelshuffledirect',
                            'resi_connection': '1conv', 'drop_path_rate': 0.5}
    options['train'].update(total_iter=12)
    options['logger']['save_checkpoint_freq'] = 4
    options['datasets']['train'] |= TRAIN
    return options


class Killed(Exception):
    """The end of a training that saves nothing."""


def stop():
    stop_request.requested_at = time.monotonic()


def kill():
    raise Killed


def train_until(monkeypatch, path, iteration, end, *flags):
    """Trains, and ends it within an iteration."""
    optimize_parameters = SRModel.optimize_parameters

    def optimize(self, current_iter):
        if current_iter == iteration:
            end()
        optimize_parameters(self, current_iter)

    with monkeypatch.context() as patch:
        patch.setattr(SRModel, 'optimize_parameters', optimize)
        if end is stop:
            assert main(['train', '-opt', path, *flags]) == 130
        else:
            with pytest.raises(Killed):
                main(['train', '-opt', path, *flags])


def assert_same_end(one, other, iteration=12):
    for file in (f'models/net_g_{iteration}.pth', f'training_states/{iteration}.state'):
        first, second = (torch.load(f'experiments/{name}/{file}') for name in (one, other))
        assert_same(first, second)


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('end', [stop, kill])
def test_a_run_that_was_ended_and_resumed_is_the_run_that_went_through(swinir, write_options, workdir, monkeypatch,
                                                                       end, workers):
    swinir['datasets']['train']['num_worker_per_gpu'] = workers
    path = write_options(swinir)
    assert main(['train', '-opt', path, '--force_yml', 'name=whole']) == 0
    # Within the first epoch, and in the second.
    train_until(monkeypatch, path, 5, end)
    train_until(monkeypatch, path, 11, end, '--auto_resume')
    assert sorted(os.listdir('experiments/tiny/training_states')) == (
        ['11.state', '4.state', '5.state', '8.state'] if end is stop else ['4.state', '8.state'])
    assert main(['train', '-opt', path, '--auto_resume', '--force_yml', 'datasets:train:num_worker_per_gpu=1']) == 0
    assert_same_end('whole', 'tiny')


def test_prefetching_changes_no_weights(swinir, write_options, workdir):
    swinir['datasets']['train']['num_worker_per_gpu'] = 0
    path = write_options(swinir)
    for name, mode in (('plain', None), ('prefetched', 'cpu')):
        flags = [f'name={name}', f'datasets:train:prefetch_mode={mode}', 'datasets:train:num_prefetch_queue=3']
        assert main(['train', '-opt', path, '--force_yml', *flags]) == 0
    assert_same_end('plain', 'prefetched')


def test_a_seed_that_was_drawn_is_kept(swinir, write_options, workdir, monkeypatch):
    del swinir['manual_seed']
    path = write_options(swinir)
    train_until(monkeypatch, path, 6, kill)
    seed = torch.load('experiments/tiny/training_states/4.state')['manual_seed']
    assert main(['train', '-opt', path, '--auto_resume']) == 0
    # The first weights followed from it, too.
    assert main(['train', '-opt', path, '--force_yml', 'name=whole', f'manual_seed={seed}']) == 0
    assert_same_end('whole', 'tiny')


def test_the_option_files_seed_counts_where_it_has_one(swinir, write_options, workdir):
    path = write_options(swinir)
    assert main(['train', '-opt', path, '--force_yml', 'train:total_iter=4']) == 0
    flags = ['--force_yml', 'train:total_iter=8', 'manual_seed=8']
    assert main(['train', '-opt', path, '--auto_resume', *flags]) == 0
    assert torch.load('experiments/tiny/training_states/8.state')['manual_seed'] == 8


# ----- samples -----


@pytest.fixture
def batches(options, image_folders):
    """Makes the batches of the second epoch, of a dataset of that type."""
    for folder in image_folders:
        for file in folder.iterdir():
            cv2.imwrite(str(file), cv2.resize(cv2.imread(str(file)), None, fx=3, fy=3))

    def make(kind, workers=0, batch_size=2, **more):
        opt = copy.deepcopy({**options, 'is_train': True, 'dist': False, 'rank': 0, 'world_size': 1, **more})
        scale = 1 if kind == 'InpaintingDataset' else 2
        train = opt['datasets']['train']
        train |= TRAIN | DATASETS[kind]
        train |= {'type': kind, 'phase': 'train', 'scale': scale, 'num_worker_per_gpu': workers,
                  'batch_size_per_gpu': batch_size}
        if kind != 'PairedImageDataset':
            del train['dataroot_lq']
        del opt['datasets']['val']
        loader, sampler, *_ = basicsr.train.create_train_val_dataloader(opt, logging.getLogger())
        sampler.set_epoch(1)
        return list(loader)

    return make


@pytest.mark.parametrize('kind', DATASETS)
def test_samples_are_the_same_in_however_many_processes_and_after_a_resumption(batches, kind):
    whole = batches(kind)
    assert len(whole) == 9
    for workers in (1, 3):
        assert_same(batches(kind, workers=workers), whole)
    # Four iterations into the second epoch.
    place = {'epoch': 1, 'iter': 13, 'epoch_began': 9, 'images_a_step': 2}
    assert_same(batches(kind, workers=2, resumed_from=place), whole[4:])
    # The eight that it has seen are not drawn again by other batches.
    assert_same(batches(kind, batch_size=4, resumed_from=place), batches(kind, batch_size=4)[2:])
    assert_same(batches(kind, batch_size=3, resumed_from=place), batches(kind, batch_size=3)[3:])
    with pytest.raises(AssertionError):
        assert_same(batches(kind, manual_seed=8), whole)


@pytest.mark.parametrize('kind', DATASETS)
@pytest.mark.parametrize('world_size', [2, 4])
def test_processes_share_out_the_batches_of_one_with_all_that_is_drawn(batches, monkeypatch, kind, world_size):
    whole = batches(kind, batch_size=4)
    shares = []
    for rank in range(world_size):
        monkeypatch.setattr(repeating, 'get_dist_info', lambda: (rank, world_size))
        shares.append(batches(kind, batch_size=4 // world_size, rank=rank, world_size=world_size))
    # Of 18 samples, which four processes cannot share out evenly.
    assert len(whole) == 4
    for batch, *parts in zip(whole, *shares, strict=True):
        for rank, part in enumerate(parts):
            assert_same(part, {key: values[rank::world_size] for key, values in batch.items()})


def test_no_sample_draws_what_another_draws(monkeypatch):
    drawn = []
    for rank in (0, 1):
        monkeypatch.setattr(repeating, 'get_dist_info', lambda: (rank, 2))
        sampler = SeededSampler(Draws(), 2, rank, ratio=3, seed=3)
        loader = build_dataloader(Draws(), {'phase': 'train', 'batch_size_per_gpu': 1}, sampler=sampler, seed=3)
        for epoch in (0, 1):
            sampler.set_epoch(epoch)
            drawn += torch.cat(list(loader)).flatten().tolist()
    # Each of the four images three times an epoch, by three generators.
    assert len(drawn) == len(set(drawn)) == 2 * 4 * 3 * 3


# ----- steps -----


def numbers():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_an_iteration_draws_its_own_numbers_whatever_was_drawn_before(options, tmp_path):
    options['datasets']['train'].update(phase='train', scale=2)
    options['path'].update(models=str(tmp_path), training_states=str(tmp_path))
    opt = dict(options, is_train=True, dist=False, rank=0, world_size=1)

    def drawn(iteration, **more):
        torch.rand(3)
        build_model(copy.deepcopy({**opt, **more})).update_learning_rate(iteration)
        return numbers()

    first = drawn(1)
    assert first == drawn(1) and len({*first, *drawn(2), *drawn(1, manual_seed=8)}) == 9


def test_what_is_drawn_for_something_leaves_no_trace():
    seed_all('a', 1)
    before = numbers()
    seed_all('a', 1)
    for _ in range(2):
        with drawn_for('b', 2):
            inside = numbers()
        with drawn_for('b', 2):
            assert numbers() == inside
        with pytest.raises(Killed), going_on():
            numbers()
            kill()
    assert numbers() == before
    assert len({*before, *inside}) == 6
