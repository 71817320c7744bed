"""Samplers, loaders, prefetchers and LMDBs: no early end, no hang, no repeated crops."""
import logging
import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import basicsr.data
import basicsr.train
import cv2
import lmdb
import numpy as np
import pytest
import torch
from basicsr.data import build_dataloader, build_dataset
from basicsr.data.data_sampler import EnlargedSampler
from basicsr.data.prefetch_dataloader import CPUPrefetcher, PrefetchGenerator
from basicsr.utils import FileClient
from basicsr.utils.file_client import LmdbBackend

from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.toolbox.loading import SeededSampler, entry_of
from lmdb_cases import make_lmdb
from loading_cases import Draws, train_loader

LOG = logging.getLogger('test')
ROOT = Path(__file__).parent.parent


@pytest.fixture
def opt(options):
    """The option dict as create_train_val_dataloader gets it."""
    for phase in ('train', 'val'):
        options['datasets'][phase].update(phase=phase, scale=2)
    return dict(options, is_train=True, dist=False, rank=0, world_size=1)


# ----- how long training is -----


def test_epochs_follow_from_the_batches_there_are(opt):
    opt['datasets']['train']['batch_size_per_gpu'] = 4  # six images: one batch, two left over
    opt['train']['total_iter'] = 20
    loader, sampler, _, epochs, total = basicsr.train.create_train_val_dataloader.upstream(opt, LOG)
    assert (epochs + 1) * len(loader) < total
    loader, sampler, val, epochs, total = basicsr.train.create_train_val_dataloader(opt, LOG)
    assert epochs == 20 and len(loader) == 1 and total == 20 and len(val) == 1
    assert opt['iterations_per_epoch'] == 1


def test_a_batch_larger_than_the_data_is_refused(opt):
    opt['datasets']['train']['batch_size_per_gpu'] = 16
    assert len(basicsr.train.create_train_val_dataloader.upstream(opt, LOG)[0]) == 0
    with pytest.raises(InputError, match='6 images x dataset_enlarge_ratio 1 .*one batch of 16; '
                       'lower batch_size_per_gpu to 6 or set dataset_enlarge_ratio to 3'):
        basicsr.train.create_train_val_dataloader(opt, LOG)
    opt['datasets']['train']['dataset_enlarge_ratio'] = 3
    assert len(basicsr.train.create_train_val_dataloader(opt, LOG)[0]) == 1
    opt['world_size'] = 20
    with pytest.raises(InputError, match='on 20 .* one batch of 16; set dataset_enlarge_ratio to 54'):
        basicsr.train.create_train_val_dataloader(opt, LOG)


@pytest.mark.parametrize('workers', [0, 1])
def test_images_of_several_sizes_need_patches_or_batches_of_one(opt, image_folders, workers):
    for folder, side in zip(image_folders, (24, 12)):
        cv2.imwrite(str(folder / '06.png'), np.zeros((side, side, 3), np.uint8))
    data = opt['datasets']['train']
    data.update(gt_size=None, batch_size_per_gpu=7, num_worker_per_gpu=workers, use_rot=False)
    with pytest.raises(InputError, match='differ in size, 12x12 and 20x16: take patches of one size, gt_size, or'):
        next(iter(basicsr.train.create_train_val_dataloader(opt, LOG)[0]))
    data.update(batch_size_per_gpu=1)
    assert len(list(basicsr.train.create_train_val_dataloader(opt, LOG)[0])) == 7


def test_without_training_data_the_missing_option_is_named(opt):
    del opt['datasets']['train']
    with pytest.raises(UnboundLocalError):
        basicsr.train.create_train_val_dataloader.upstream(opt, LOG)
    with pytest.raises(InputError, match='datasets.train is missing'):
        basicsr.train.create_train_val_dataloader(opt, LOG)


# ----- order and seeds -----


def test_the_order_follows_manual_seed():
    data = list(range(10))
    assert list(EnlargedSampler(data, 1, 0)) == list(EnlargedSampler(data, 1, 0))
    first, again, other = (list(SeededSampler(data, 1, 0, seed=seed)) for seed in (1, 1, 2))
    assert first == again != other and sorted(first) == data
    sampler = SeededSampler(data, 1, 0, seed=1)
    sampler.set_epoch(1)
    assert list(sampler) != first


def test_no_seed_has_the_order_of_another_an_epoch_later():
    data, orders = list(range(10)), set()
    for seed in range(3):
        sampler = SeededSampler(data, 1, 0, seed=seed)
        for epoch in range(3):
            sampler.set_epoch(epoch)
            orders.add(tuple(sampler))
    assert len(orders) == 9


def test_ranks_share_out_the_enlarged_data():
    shares = [list(SeededSampler(list(range(5)), 2, rank, ratio=2, seed=1)) for rank in (0, 1)]
    assert len(shares[0]) == len(shares[1]) == 5 and sorted(shares[0] + shares[1]) == sorted(list(range(5)) * 2)


def test_a_resumed_epoch_is_entered_where_it_was_left():
    sampler = SeededSampler(list(range(10)), 1, 0, seed=1)
    sampler.set_epoch(2)
    whole = list(sampler)
    sampler.enter_at(2, 4)
    assert list(sampler) == whole[4:] == list(sampler) and len(sampler) == 10
    sampler.set_epoch(3)
    assert len(list(sampler)) == 10


@pytest.mark.parametrize('state, entry', [
    ({'epoch': 1, 'iter': 13, 'epoch_began': 9, 'images_a_step': 2}, (1, 4)),
    ({'epoch': 1, 'iter': 13, 'epoch_began': 9, 'images_a_step': 4}, (1, 8)),
    # Of an epoch that has become shorter since.
    ({'epoch': 1, 'iter': 13, 'epoch_began': 0, 'images_a_step': 2}, (1, 9)),
    # Of states that do not say more; BasicSR's at the end of an epoch; those of other batches.
    ({'epoch': 1, 'iter': 13, 'images_a_step': None}, (1, 4)),
    ({'epoch': 0, 'iter': 9, 'images_a_step': None}, (0, 9)),
    ({'epoch': 5, 'iter': 13, 'images_a_step': None}, (5, 0)),
    ({'epoch': 0, 'iter': 13, 'images_a_step': None}, (0, 0)),
])
def test_a_resumed_run_leaves_out_what_its_epoch_has_seen(state, entry):
    assert entry_of(state, iterations_per_epoch=9, images_a_step=2) == entry


@pytest.mark.parametrize('persistent', [True, False])
def test_epochs_draw_different_augmentations(persistent):

    def epochs(build):
        loader = train_loader(Draws(), build, num_worker_per_gpu=2, persistent_workers=persistent)
        return [torch.cat(list(loader)) for _ in range(2)]

    first, second = epochs(build_dataloader)
    assert (first != second).all()
    # Workers draw differently from each other, and the same in every run.
    assert len(set(first.flatten().tolist())) == first.numel()
    assert torch.equal(first, epochs(build_dataloader)[0])
    # Whichever worker reads a sample, and were it none.
    loader = train_loader(Draws(), num_worker_per_gpu=0)
    assert torch.equal(torch.cat(list(loader)), first) and torch.equal(torch.cat(list(loader)), second)
    if not persistent:
        first, second = epochs(build_dataloader.upstream)
        assert torch.equal(first[:, :2], second[:, :2])  # random and numpy repeat


@pytest.mark.parametrize('workers', [0, 1])
def test_loading_leaves_the_random_state_alone(workers):
    loader, before = train_loader(Draws(), num_worker_per_gpu=workers), torch.get_rng_state()
    list(loader)
    assert torch.equal(torch.get_rng_state(), before)
    list(train_loader(Draws(), build_dataloader.upstream, num_worker_per_gpu=1, persistent_workers=False))
    assert not torch.equal(torch.get_rng_state(), before)


def test_workers_are_forked_and_kept_even_where_a_launcher_chose_spawn():
    loader = train_loader(Draws(), num_worker_per_gpu=1)
    assert loader.persistent_workers
    if os.uname().sysname == 'Linux':
        assert loader.multiprocessing_context.get_start_method() == 'fork'
    assert not train_loader(Draws(), num_worker_per_gpu=1, persistent_workers=False).persistent_workers


def test_persistent_workers_without_workers_are_no_error():
    with pytest.raises(ValueError):
        train_loader(Draws(), build_dataloader.upstream, persistent_workers=True)
    assert len(train_loader(Draws(), persistent_workers=True)) == 4
    assert len(build_dataloader(Draws(), {'phase': 'val', 'persistent_workers': True})) == 4


def test_data_parallel_batches_are_counted_once():
    loader = build_dataloader(Draws(), {'phase': 'train', 'batch_size_per_gpu': 1, 'num_worker_per_gpu': 0}, num_gpu=2)
    assert loader.batch_size == 2 and len(loader) == 2


@pytest.mark.parametrize('phase, said, gpus, present, pins', [
    ('train', {}, 1, True, True),
    ('train', {}, 1, False, False),
    ('train', {}, 0, True, False),
    ('train', {'pin_memory': False}, 1, True, False),
    ('train', {'pin_memory': True}, 1, False, False),
    ('val', {}, 1, True, False),
])
def test_batches_lie_in_pinned_memory_where_a_gpu_trains(monkeypatch, phase, said, gpus, present, pins):
    monkeypatch.setattr('torch.cuda.is_available', lambda: present)
    loader = build_dataloader(Draws(), {'phase': phase, 'batch_size_per_gpu': 1, **said}, num_gpu=gpus)
    assert loader.pin_memory is pins


def test_an_unknown_phase_is_refused():
    with pytest.raises(InputError, match="got 'trian'"):
        build_dataloader(Draws(), {'phase': 'trian'})


# ----- the end -----


@pytest.mark.parametrize('mode', [None, 'cpu'])
def test_an_error_ends_workers_too(mode):
    # The traceback of what nobody catches keeps the loader's iterator alive.
    script = f'''
import torch, diffrwkvir_arch
from basicsr.data import build_dataloader
loader = build_dataloader(torch.arange(99.), {{'phase': 'train', 'batch_size_per_gpu': 1, 'num_worker_per_gpu': 2,
                                              'prefetch_mode': {mode!r}}})
for batch in loader:
    print(loader._iterator._workers[0].pid, flush=True)
    raise RuntimeError('CUDA out of memory')
'''
    result = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert result.returncode == 1 and result.stderr.endswith('RuntimeError: CUDA out of memory\n'), result.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(result.stdout), 0)


# ----- prefetching -----


class Failing(Draws):

    def __getitem__(self, index):
        if index == 2:
            raise InputError('03.png: damaged')
        return torch.zeros(1)


@pytest.mark.parametrize('workers', [0, 1])
def test_a_failure_while_prefetching_is_raised_instead_of_waiting_for_ever(workers):
    loader = train_loader(Failing(), prefetch_mode='cpu', num_worker_per_gpu=workers)
    prefetcher = CPUPrefetcher(loader)
    prefetcher.reset()
    with pytest.raises(InputError, match=r'03\.png: damaged'):
        for _ in range(5):
            prefetcher.next()


def test_upstream_waits_for_ever(monkeypatch):
    monkeypatch.setattr(threading, 'excepthook', lambda arguments: None)

    def fail():
        raise ValueError
        yield

    generator = PrefetchGenerator(fail(), 1)
    generator.join()
    # The thread has ended and left nothing to wake the one that waits.
    assert generator.queue.empty()


@pytest.mark.parametrize('workers, queue, factor', [(0, 1, 3), (1, 4, 6), (2, 1, 3), (2, 4, 4)])
def test_the_queue_is_of_batches_beyond_those_that_workers_read_ahead_anyway(workers, queue, factor):
    loader = train_loader(Draws(), prefetch_mode='cpu', num_worker_per_gpu=workers, num_prefetch_queue=queue)
    assert (loader.num_workers, loader.prefetch_factor) == (max(1, workers), factor)
    assert train_loader(Draws(), num_worker_per_gpu=2).prefetch_factor == 2


def test_prefetched_batches_are_those_of_the_loader_epoch_after_epoch():
    loader = train_loader(torch.arange(4.), prefetch_mode='cpu', num_worker_per_gpu=1)
    prefetcher = CPUPrefetcher(loader)
    for _ in range(2):
        prefetcher.reset()
        batches = [prefetcher.next() for _ in range(4)]
        assert sorted(batch.item() for batch in batches) == [0, 1, 2, 3] and prefetcher.next() is None


def test_workers_start_with_the_first_epoch_and_once():
    starts = []

    class Loader(list):

        def __iter__(self):
            starts.append(1)
            return super().__iter__()

    prefetcher = CPUPrefetcher(Loader([1]))
    assert prefetcher.next() is None
    prefetcher.reset()
    assert prefetcher.next() == 1 and len(starts) == 1
    upstream = object.__new__(CPUPrefetcher)
    CPUPrefetcher.__init__.upstream(upstream, Loader([1]))
    assert len(starts) == 2


# ----- LMDB -----


@pytest.fixture
def store(image_folders):
    return make_lmdb(image_folders[0])


def test_an_lmdb_is_read_twice_in_a_process_and_in_forked_workers(store, image_folders):
    first, second = (FileClient('lmdb', db_paths=store, client_keys='gt') for _ in range(2))
    assert first.get('00', 'gt') == second.get('00', 'gt')
    # Train and validation share it, in this process and in workers that inherit it.
    dataset = build_dataset({'name': 'x', 'type': 'SingleImageDataset', 'phase': 'train', 'dataroot_lq': store})
    here = dataset[0]['lq']
    for _ in range(2):
        there = next(iter(train_loader(dataset, num_worker_per_gpu=2, persistent_workers=False)))
        assert there['lq'].shape[1:] == here.shape
    assert torch.equal(dataset[0]['lq'], here)


def test_upstream_cannot_open_an_lmdb_twice(image_folders):
    store = make_lmdb(image_folders[1])
    if int(lmdb.__version__.split('.')[0]) < 2:
        pytest.skip('lmdb before 2.0 allows it')
    one = LmdbBackend.upstream(store, 'lq')
    with pytest.raises(lmdb.Error, match='already open'):
        LmdbBackend.upstream(store, 'lq')
    one._client['lq'].close()


def test_a_missing_key_is_named_with_its_lmdb(store):
    client = FileClient('lmdb', db_paths=[store], client_keys=['gt'])
    with pytest.raises(InputError, match=r"gt\.lmdb: has no image '99'"):
        client.get('99', 'gt')


def test_a_folder_that_is_no_lmdb_is_named(tmp_path):
    with pytest.raises(InputError, match=r'no data\.mdb in it'):
        FileClient('lmdb', db_paths=[str(tmp_path)], client_keys=['gt'])


def test_an_lmdb_that_was_made_anew_is_opened_anew(store, image_folders):
    FileClient('lmdb', db_paths=[store], client_keys=['gt']).get('00', 'gt')
    import shutil
    shutil.rmtree(store)
    make_lmdb(image_folders[0], [f'new{number}' for number in range(6)])
    assert FileClient('lmdb', db_paths=[store], client_keys=['gt']).get('new0', 'gt')


def test_iterations_cover_the_data(opt):
    loader = basicsr.train.create_train_val_dataloader(opt, LOG)[0]
    assert len(list(loader)) == math.floor(6 / 2)
