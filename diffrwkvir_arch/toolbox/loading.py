"""From datasets to batches: samplers, loaders, prefetchers, and how many epochs training takes."""
import math
import os
import signal
import sys
import threading

import basicsr.data
import basicsr.train
import torch
from basicsr.data.data_sampler import EnlargedSampler
from basicsr.data.prefetch_dataloader import CPUPrefetcher

from diffrwkvir_arch.draws import generator_for
from diffrwkvir_arch.errors import InputError, counted
from diffrwkvir_arch.toolbox.logs import warn
from diffrwkvir_arch.toolbox.patching import swap
from diffrwkvir_arch.toolbox.repeating import Places, SeededSamples
from diffrwkvir_arch.toolbox.several_sets import silence_false_warning


class SeededSampler(EnlargedSampler):
    """Shuffles by manual_seed and epoch, and can enter an epoch where an interrupted run left it.

    Fault: data/data_sampler.py:31 seeds with the epoch alone, so manual_seed does not change the order; and shuffles
    images until the processes can share them out evenly, another order with every number of processes.
    Mend: processes deal out the order of one, and leave the rest that does not go round, as one leaves its last batch.

    Args:
        dataset, num_replicas, rank, ratio: As EnlargedSampler.
        seed (int): The same on all ranks.
    """

    def __init__(self, dataset, num_replicas, rank, ratio=1, seed=0):
        super().__init__(dataset, num_replicas, rank, ratio)
        self.seed = seed
        self.images = math.ceil(len(dataset) * ratio)
        self.num_samples = self.images // num_replicas
        self.total_size = self.num_samples * num_replicas
        self.entry = (0, 0)

    def enter_at(self, epoch, samples):
        """Leaves out the first `samples` of this rank in that epoch, which an interrupted run has seen."""
        self.entry = (epoch, samples)

    @property
    def first(self):
        """How many of this rank's samples the present epoch leaves out."""
        return self.entry[1] if self.entry[0] == self.epoch else 0

    def __iter__(self):
        # Not of their sum, which another seed has an epoch later.
        order = torch.randperm(self.images, generator=generator_for('order', self.seed, self.epoch))
        order = order[self.rank:self.total_size:self.num_replicas]
        return iter((order[self.first:] % len(self.dataset)).tolist())


def mend_number_of_epochs():
    """Fault: train.py:45-48 counts ceil(images / batch) iterations an epoch, but the loader drops the incomplete batch
    (and takes num_gpu batches at once under DataParallel): training ends before total_iter without a word, and at once
    where the batch is larger than the data (BasicSR#593, #639). Without datasets.train: UnboundLocalError.
    Mend: the number of epochs follows from the loader's own length, and an empty loader is an error.
    """

    def create_train_val_dataloader(opt, logger):
        train_loader, val_loaders = None, []
        for phase, dataset_opt in opt['datasets'].items():
            dataset = basicsr.data.build_dataset(dataset_opt)
            if phase == 'train':
                train_loader, train_sampler = training_loader(dataset, dataset_opt, opt)
            else:
                logger.info(f'Number of val images/folders in {dataset_opt["name"]}: {len(dataset)}')
                val_loaders.append(basicsr.data.build_dataloader(dataset, dataset_opt))
        silence_false_warning(opt['model_type'])
        if train_loader is None:
            raise InputError('datasets.train is missing: training needs a dataset')

        images_a_step = train_loader.batch_size * opt['world_size']
        epoch, done, iteration = 0, 0, 0
        if 'resumed_from' in opt:
            iteration = opt['resumed_from']['iter']
            epoch, done = entry_of(opt['resumed_from'], len(train_loader), images_a_step)
            train_sampler.enter_at(epoch, done * train_loader.batch_size)
        # The model keeps a copy of opt: this is how its training states know where in an epoch they are.
        opt.update(iterations_per_epoch=len(train_loader), images_a_step=images_a_step,
                   epoch_entered=(epoch, iteration - done))
        total_iters = int(opt['train']['total_iter'])
        total_epochs = epoch + math.ceil((total_iters - iteration + done) / len(train_loader))
        logger.info(f'Training statistics:'
                    f'\n\tNumber of train images: {len(train_sampler.dataset)}'
                    f'\n\tDataset enlarge ratio: {train_sampler.num_samples * opt["world_size"]}'
                    f' / {len(train_sampler.dataset)}'
                    f'\n\tBatch size: {train_loader.batch_size} x {opt["world_size"]} (world size)'
                    f'\n\tIterations per epoch: {len(train_loader)}'
                    f'\n\tTotal epochs: {total_epochs}; iters: {total_iters}.')
        return train_loader, train_sampler, val_loaders, total_epochs, total_iters

    swap(basicsr.train, 'create_train_val_dataloader', create_train_val_dataloader)


def entry_of(state, iterations_per_epoch, images_a_step):
    """Where a resumed run goes on: after the images that the epoch has seen, whatever the batches were.

    Args:
        state (dict): epoch and iter; of ours epoch_began, the iterations before that epoch, and images_a_step.
        iterations_per_epoch, images_a_step (int): Those of the resumed run.

    Returns:
        tuple[int, int]: The epoch, and how many of its iterations to leave out.
    """
    epoch, iteration = state['epoch'], state['iter']
    if state['images_a_step'] is None:
        # BasicSR's states, and our earlier ones, do not say.
        done = iteration - epoch * iterations_per_epoch
        return epoch, done if 0 <= done <= iterations_per_epoch else 0
    seen = (iteration - state['epoch_began']) * state['images_a_step']
    if state['images_a_step'] != images_a_step:
        warn(f'resuming with {counted(images_a_step, "image")} a step where the saved state has '
             f'{state["images_a_step"]}: an epoch takes {iterations_per_epoch} iterations now; total_iter, '
             'learning rates and all else that counts iterations do so as before')
    return epoch, min(math.ceil(seen / images_a_step), iterations_per_epoch)


def training_loader(dataset, section, opt):
    """-> the loader and the sampler of a training dataset; InputError where it does not fill one batch."""
    ratio = section.get('dataset_enlarge_ratio', 1)
    sampler = SeededSampler(dataset, opt['world_size'], opt['rank'], ratio, opt['manual_seed'])
    loader = basicsr.data.build_dataloader(
        dataset, section, num_gpu=opt['num_gpu'], dist=opt['dist'], sampler=sampler, seed=opt['manual_seed'])
    if len(loader) == 0:
        images, batch = len(dataset), loader.batch_size
        if images == 0:
            raise InputError('datasets.train holds no images')
        lower = f'lower batch_size_per_gpu to {sampler.num_samples} or ' if sampler.num_samples else ''
        raise InputError(f'datasets.train: {images} images x dataset_enlarge_ratio {ratio} on {opt["world_size"]} '
                         f'process(es) do not fill one batch of {batch}; {lower}set dataset_enlarge_ratio to '
                         f'{math.ceil(batch * opt["world_size"] / images)}')
    return loader, sampler


def outlive_sigterm(worker_id):
    """Lets a worker go on after SIGTERM, which a cluster sends to all processes: the last iteration needs data.

    Its parent's ends it, such as DataLoader and Python's exit send; without a parent PyTorch's watchdog does.
    """
    if not hasattr(signal, 'sigwaitinfo'):
        return    # macOS, Windows.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait():
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def collate(items):
    """A training batch of a dataset's items, as PyTorch makes it; whole images of several sizes make none."""
    try:
        return torch.utils.data.default_collate(items)
    except RuntimeError:
        sides = {item['lq'].shape[-2:] for item in items if isinstance(item, dict) and 'lq' in item}
        if len(sides) < 2:
            raise
    sizes = ' and '.join(f'{width}x{height}' for height, width in sorted(sides)[:2])
    raise InputError(f'datasets.train: the LQ images of a batch differ in size, {sizes}: take patches of one size, '
                     'gt_size, or whole images one by one, batch_size_per_gpu: 1')


def mend_loader():
    """Faults of data/__init__.py:42-101: every epoch's new workers get the same seed, so they repeat the same crops and
    flips; what a sample draws depends on the worker that reads it, and on all that it has read; images of several sizes
    end in "stack expects each tensor to be equal size"; `persistent_workers: true` without workers (and on validation
    data, which has none) is a ValueError; under a launcher the start method is spawn, and each epoch waits for workers
    that import torch anew. With `prefetch_mode: cpu` a thread reads, which draws from training's random numbers, ends
    without a word at an unreadable image, so that training waits for ever, and keeps workers from ending with it.
    Mend: SeededSamples; workers are forked on Linux and kept, unless persistent_workers says false; they read ahead
    num_prefetch_queue batches more than by themselves, instead of a thread.
    """

    def build_dataloader(dataset, dataset_opt, num_gpu=1, dist=False, sampler=None, seed=None):
        phase = dataset_opt['phase']
        # Out of pinned memory a GPU takes a batch while it still works on the last.
        pin_memory = dataset_opt.get('pin_memory', phase == 'train' and num_gpu > 0) and torch.cuda.is_available()
        # An own generator: every pass draws a seed, and must not move the random state of whoever loads.
        generator = torch.Generator()
        arguments = {'dataset': dataset, 'pin_memory': pin_memory, 'generator': generator}
        if phase == 'train':
            processes = 1 if dist else max(1, num_gpu)
            workers = dataset_opt.get('num_worker_per_gpu', 0) * processes
            if dataset_opt.get('prefetch_mode') == 'cpu':
                workers = max(1, workers)
                # Batches ahead of each; two are PyTorch's own.
                arguments['prefetch_factor'] = 2 + math.ceil(dataset_opt.get('num_prefetch_queue', 1) / workers)
            if sampler is None:
                sampler = torch.utils.data.RandomSampler(dataset, generator=generator.manual_seed(seed or 0))
            arguments.update(
                dataset=SeededSamples(dataset),
                batch_size=dataset_opt['batch_size_per_gpu'] * processes,
                sampler=Places(sampler, seed),
                drop_last=True,
                collate_fn=collate,
                num_workers=workers)
            if workers > 0:
                arguments.update(
                    worker_init_fn=outlive_sigterm,
                    persistent_workers=dataset_opt.get('persistent_workers', True),
                    multiprocessing_context='fork' if sys.platform == 'linux' else None)
        elif phase in ('val', 'test'):
            arguments.update(batch_size=1, shuffle=False, num_workers=0)
        else:
            raise InputError(f"dataset phase must be 'train', 'val' or 'test', got {phase!r}")
        return torch.utils.data.DataLoader(**arguments)

    swap(basicsr.data, 'build_dataloader', build_dataloader)


def mend_prefetcher_started_twice():
    """Fault: data/prefetch_dataloader.py:72, the prefetcher starts the loader's workers when it is made and
    train.py:159 at once a second time, which reads their first batches twice.
    Mend: they start with the first epoch.
    """

    def __init__(self, loader):
        self.ori_loader = loader
        self.loader = iter(())

    swap(CPUPrefetcher, '__init__', __init__)
