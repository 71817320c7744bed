"""Small images and a small option file that the tests train and test with, in seconds on a CPU."""
import os

os.environ.setdefault('OMP_NUM_THREADS', '1')

import logging  # noqa: E402
import sys  # noqa: E402

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
import yaml  # noqa: E402
from drawing import draw  # noqa: E402

import diffrwkvir_arch  # noqa: E402, F401
from basicsr.models import build_model  # noqa: E402
from diffrwkvir_arch.cli import main  # noqa: E402
from diffrwkvir_arch.toolbox.logs import close_logs  # noqa: E402
from diffrwkvir_arch.tools import compare  # noqa: E402
from diffrwkvir_arch.tools.comparison.contest import Contestant  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture
def image_folders(tmp_path):
    """Six GT images of 32x40 in tmp_path/gt and their halves in tmp_path/lq; returns both folders."""
    gt, lq = tmp_path / 'gt', tmp_path / 'lq'
    gt.mkdir()
    lq.mkdir()
    for number in range(6):
        picture = draw(32, 40, number)
        cv2.imwrite(str(gt / f'{number:02d}.png'), picture)
        cv2.imwrite(str(lq / f'{number:02d}.png'), cv2.resize(picture, (20, 16), interpolation=cv2.INTER_AREA))
    return gt, lq


@pytest.fixture
def options(image_folders):
    """A parsed option file that trains BasicSR's SRModel for 6 iterations on image_folders."""
    gt, lq = map(str, image_folders)
    return {
        'name': 'tiny',
        'model_type': 'SRModel',
        'scale': 2,
        'num_gpu': 0,
        'manual_seed': 7,
        'datasets': {
            'train': {
                'name': 'some', 'type': 'PairedImageDataset', 'dataroot_gt': gt, 'dataroot_lq': lq,
                'io_backend': {'type': 'disk'}, 'gt_size': 16, 'use_hflip': True, 'use_rot': True,
                'num_worker_per_gpu': 0, 'batch_size_per_gpu': 2, 'dataset_enlarge_ratio': 1, 'prefetch_mode': None
            },
            'val': {
                'name': 'some', 'type': 'PairedImageDataset', 'dataroot_gt': gt, 'dataroot_lq': lq,
                'io_backend': {'type': 'disk'}
            }
        },
        'network_g': {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 2},
        'path': {'pretrain_network_g': None, 'strict_load_g': True, 'resume_state': None},
        'train': {
            'ema_decay': 0.9,
            'optim_g': {'type': 'Adam', 'lr': 1e-3, 'betas': [0.9, 0.99]},
            'scheduler': {'type': 'MultiStepLR', 'milestones': [4], 'gamma': 0.5},
            'total_iter': 6,
            'warmup_iter': -1,
            'pixel_opt': {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'}
        },
        'val': {
            'val_freq': 100, 'save_img': False,
            'metrics': {'psnr': {'type': 'calculate_psnr', 'crop_border': 2, 'test_y_channel': True}}
        },
        'logger': {'print_freq': 1, 'save_checkpoint_freq': 3, 'use_tb_logger': False}
    }


@pytest.fixture
def opt(options, tmp_path):
    """The option dict of a run, as train_pipeline has it after parsing."""
    folder = tmp_path / 'experiments' / 'tiny'
    for name in ('models', 'training_states', 'visualization'):
        (folder / name).mkdir(parents=True)
        options['path'][name] = str(folder / name)
    options['path'].update(experiments_root=str(folder), log=str(folder))
    options['datasets']['train'].update(phase='train', scale=2)
    return dict(options, is_train=True, auto_resume=False, dist=False, rank=0, world_size=1)


@pytest.fixture
def model(opt):
    """The model of that run."""
    return build_model(opt)


@pytest.fixture
def workdir(tmp_path, monkeypatch):
    """An empty current directory; BasicSR's logger forgets what it wrote to before."""
    folder = tmp_path / 'work'
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield folder
    close_logs()
    logging.getLogger('basicsr').setLevel(logging.NOTSET)


@pytest.fixture
def photos(workdir):
    """workdir/'my photos' with three pictures of 100x76, 60x60 and 30x90; returns name -> BGR."""
    (workdir / 'my photos').mkdir()
    pictures = {'a': draw(100, 76, 0), 'b': draw(60, 60, 1), 'c': draw(30, 90, 2)}
    for name, picture in pictures.items():
        cv2.imwrite(f'my photos/{name}.png', picture)
    return pictures


@pytest.fixture
def mixed_photos(workdir):
    """workdir/'my photos' with a colour, a grey, a 16-bit and a transparent picture, and a method, one.yml."""
    from compare_cases import EDSR, write_method
    folder = workdir / 'my photos'
    folder.mkdir()
    picture = draw(20, 26, 0)
    alpha = np.full((20, 26, 1), 255, np.uint8)
    alpha[:10] = 0
    for name, image in {'colour': picture, 'grey': picture[..., 0], 'deep': picture.astype(np.uint16) * 257,
                        'clear': np.concatenate([picture, alpha], 2)}.items():
        assert cv2.imwrite(str(folder / f'{name}.png'), image)
    write_method(workdir, 'one', EDSR, seed=1)
    return folder


@pytest.fixture
def calls(monkeypatch):
    """A list of what `basicsr compare` restores, (label, image) for a timed call; an untimed one precedes the first."""
    seen, measure = [], Contestant.measure

    def counted(self, sample):
        seen.append((self.method.label, sample.name))
        return measure(self, sample)

    monkeypatch.setattr(Contestant, 'measure', counted)
    return seen


@pytest.fixture
def no_plots(monkeypatch):
    """They take a second each; the tests of pictures draw them themselves."""
    monkeypatch.setattr(compare, 'write_plots', lambda *_: [])


@pytest.fixture
def write_options(workdir):
    """Writes an option dict as a YAML file of the current directory; returns its path."""

    def write(options, name='tiny.yml'):
        path = workdir / name
        path.write_text(yaml.safe_dump(options, sort_keys=False), encoding='utf-8')
        return str(path)

    return write


@pytest.fixture
def run(write_options, capfd):
    """Runs a verb on an option dict; returns the exit code and what came on stderr."""

    def run_verb(verb, options, *flags):
        code = main([verb, '-opt', write_options(options), *flags])
        return code, capfd.readouterr().err

    return run_verb


@pytest.fixture
def packages(workdir, monkeypatch):
    """own_nets and broken_nets in the current directory, unknown to Python and the registries; returns the folder."""
    from package_cases import HELPER, PACKAGE, REGISTRIES
    monkeypatch.setattr(sys, 'path', list(sys.path))
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, '_obj_map', dict(registry._obj_map))
    for name in ('own_nets', 'own_helper', 'broken_nets'):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (workdir / 'own_nets').mkdir()
    (workdir / 'own_nets' / '__init__.py').write_text(PACKAGE)
    (workdir / 'own_helper.py').write_text(HELPER)
    (workdir / 'broken_nets.py').write_text('import own_nets\n1 / 0\n')
    return workdir
