"""Checks the datasets of a parsed option file, and that what they name is there."""
import inspect
import os

from diffrwkvir_arch.errors import InputError, did_you_mean, unknown_option
from diffrwkvir_arch.option_sections import as_count, declared, is_own, look_up, quoted_words, require
from diffrwkvir_arch.values import check_flag

KNOWN = {
    'name', 'type', 'dataroot_gt', 'dataroot_lq', 'meta_info_file', 'filename_tmpl', 'io_backend', 'gt_size',
    'use_hflip', 'use_rot', 'use_shuffle', 'num_worker_per_gpu', 'batch_size_per_gpu', 'dataset_enlarge_ratio',
    'prefetch_mode', 'num_prefetch_queue', 'pin_memory', 'persistent_workers', 'mean', 'std', 'color', 'scale',
    'phase'
}
FLAGS = ('use_hflip', 'use_rot', 'use_shuffle', 'pin_memory', 'persistent_workers')


def check_datasets(opt, warn):
    """Checks every section of datasets, and that there is one to train or test on."""
    datasets = opt['datasets']
    for phase, dataset in datasets.items():
        path = f'datasets.{phase}'
        allowed = ('train', 'val') if opt['is_train'] else ('val', 'test')
        if phase.split('_')[0] not in allowed or (phase != 'train' and phase.startswith('train')):
            raise InputError(f"'{path}': {'training' if opt['is_train'] else 'testing'} takes the datasets "
                             f"{'train, val, val_1, val_2, ...' if opt['is_train'] else 'test_1, test_2, ... or val'}"
                             f'{did_you_mean(phase, allowed)}')
        require(dataset, path, ['type'])
        check_dataset(opt, path, dataset, warn)
    if not datasets:
        raise InputError('datasets: no dataset is given')
    names = [dataset['name'] for phase, dataset in datasets.items() if phase != 'train']
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"datasets: two are named '{name}', and would write to one folder; give each its own name")
    if opt['is_train'] and 'train' not in datasets:
        raise InputError('missing option: datasets.train')


def check_dataset(opt, path, dataset, warn):
    """Checks one dataset section and fills in its defaults."""
    cls = look_up('dataset', dataset['type'], f'{path}.type')
    known = KNOWN | declared(cls, 'datasets') | declared(cls, '')
    for key in dataset:
        if key not in known and key not in quoted_words(cls):
            if is_own(cls):
                raise unknown_option(f'{path}.{key}', known)
            warn(f"unknown option '{path}.{key}'{did_you_mean(key, known)}")
    for key in ('dataroot_gt', 'dataroot_lq', 'dataroot_mask'):
        if is_own(cls) and isinstance(dataset.get(key), list):
            raise InputError(f'{path}.{key} takes one folder or LMDB, got a list; basicsr prepare FOLDER FOLDER ... -o '
                             'FOLDER makes one of several')
    for key in FLAGS:
        check_flag(f'{path}.{key}', dataset.get(key))
    dataset.setdefault('name', path.rpartition('.')[2])
    fill_backend(path, dataset)
    check_backend(f'{path}.io_backend', dataset['io_backend'])
    for key in ('gt_size', 'dataset_enlarge_ratio', 'num_prefetch_queue'):
        # Whole images may be wanted, by gt_size: ~.
        if key in dataset and not (key == 'gt_size' and dataset[key] is None):
            as_count(dataset, path, key)
    # What a dataset wants to refuse before anything is written.
    if hasattr(cls, 'check_options'):
        cls.check_options(path, {**dataset, 'scale': opt.get('scale')})
    if dataset.get('prefetch_mode') not in (None, 'cpu', 'cuda'):
        raise InputError(f"{path}.prefetch_mode must be cpu, cuda or ~, got {dataset['prefetch_mode']!r}")
    if dataset.get('prefetch_mode') == 'cuda' and not has_cuda():
        warn(f'{path}.prefetch_mode: cuda needs a GPU; loading without prefetching')
        dataset['prefetch_mode'] = None
    if dataset.get('prefetch_mode') == 'cuda' and not dataset.setdefault('pin_memory', True):
        raise InputError(f'{path}.prefetch_mode: cuda needs {path}.pin_memory: true')
    if path == 'datasets.train':
        require(dataset, path, ['batch_size_per_gpu'])
        dataset.setdefault('num_worker_per_gpu', 0)
        as_count(dataset, path, 'batch_size_per_gpu')
        as_count(dataset, path, 'num_worker_per_gpu', minimum=0)
        scale, gt_size = opt.get('scale') or 1, dataset.get('gt_size')
        if isinstance(gt_size, int) and isinstance(scale, int) and gt_size % scale:
            raise InputError(f'{path}.gt_size: {gt_size} is not a multiple of scale {scale}; use '
                             f'{gt_size // scale * scale or scale} or {(gt_size // scale + 1) * scale}')


def check_places(opt):
    """The folders, LMDBs and lists that datasets name must exist."""
    missing = {}
    for phase, dataset in opt['datasets'].items():
        for key in ('dataroot_gt', 'dataroot_lq', 'dataroot_mask', 'meta_info_file'):
            place = dataset.get(key)
            if isinstance(place, str) and not os.path.exists(os.path.expanduser(place)):
                missing.setdefault(phase, (key, place))
    if not missing:
        return
    phase, (key, place) = next(iter(missing.items()))
    without = ''
    if 'train' not in missing and len(missing) < len(opt['datasets']):
        without = f'; the others alone: --force_yml {" ".join(f"datasets:{name}=~" for name in missing)}'
    raise InputError(f'datasets.{phase}.{key}: {place} does not exist{missing_place_hint(key, place)}{without}')


def expanded_places(section):
    """The folders, LMDBs and lists that a dataset section names, by option, with ~ for the user's home filled in."""
    return {key: os.path.expanduser(value) for key, value in section.items()
            if isinstance(value, str) and (key.startswith('dataroot_') or key == 'meta_info_file')}


def missing_place_hint(key, place):
    """What to do about a folder or list that is not there."""
    if key == 'meta_info_file' and 'basicsr/data/meta_info' in place.replace('\\', '/'):
        return "; BasicSR's package comes without these lists: remove the option to use every image of the folder"
    seen_from = '' if os.path.isabs(os.path.expanduser(place)) else f' (seen from {os.getcwd()})'
    # Where the shipped option files look.
    if place.startswith('datasets/demo/'):
        return seen_from + '; basicsr demo makes it'
    if place.startswith('datasets/'):
        return seen_from + '; docs/datasets.md says where its images come from and how it is made of them'
    return seen_from


def fill_backend(path, dataset):
    """Adds io_backend where it was left out; folders named NAME.lmdb are LMDBs."""
    backend = dataset.get('io_backend')
    if backend is None:
        backend = dataset['io_backend'] = {}
    if not isinstance(backend, dict):
        raise InputError(f'{path}.io_backend must be a section such as {{type: disk}}, got {backend!r}')
    roots = [dataset[key] for key in ('dataroot_gt', 'dataroot_lq') if isinstance(dataset.get(key), str)]
    # Imported late: the datasets need BasicSR mended.
    from diffrwkvir_arch.data.pairing import is_lmdb
    backend.setdefault('type', 'lmdb' if roots and all(map(is_lmdb, roots)) else 'disk')


def check_backend(path, backend):
    """Checks where images are read from."""
    from basicsr.utils import FileClient
    kinds = FileClient._backends
    if backend['type'] not in kinds:
        raise InputError(f"{path}.type must be one of {', '.join(kinds)}, got {backend['type']!r}")
    known = [name for name in inspect.signature(kinds[backend['type']]).parameters if name != 'kwargs']
    for key in backend:
        if key not in ('type', *known):
            raise unknown_option(f'{path}.{key}', ('type', *known))


def has_cuda():
    """Whether there is a CUDA device."""
    import torch
    return torch.cuda.is_available()
