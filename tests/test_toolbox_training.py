"""Optimizers, moving averages, several processes, log lines, Ctrl-C: upstream's faults and their mends."""
import math
import os
import signal
import subprocess
import sys
import time
import warnings

import cv2
import numpy as np
import pytest
import torch
import torch.distributed as dist
from basicsr.data import degradations
from basicsr.metrics import calculate_metric
from basicsr.models import build_model
from basicsr.models.base_model import BaseModel
from basicsr.utils import dist_util
from basicsr.utils.logger import MessageLogger

from diffrwkvir_arch.cli import main
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.toolbox import locking, logs, stopping
from diffrwkvir_arch.toolbox.stopping import StopRequest, TrainingStopped, stop_request


# ----- optimizers and EMA -----


@pytest.mark.parametrize('message', [
    'torch.meshgrid: in an upcoming release, it will be required to pass the indexing argument.',
    'Grad strides do not match bucket view strides. This may indicate grad was not created'])
def test_a_warning_that_nobody_can_heed_is_not_shown(message):
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter('always')
        logs.mend_vain_warnings()
        warnings.warn(message)
        warnings.warn('another')
    assert [str(warning.message) for warning in shown] == ['another']


@pytest.mark.parametrize('name', ['Adam', 'AdamW', 'SGD', 'NAdam', 'RMSprop'])
def test_every_optimizer_of_torch_is_at_hand(opt, name):
    opt['train']['optim_g'] = {'type': name, 'lr': 1e-3, 'weight_decay': 0.1}
    model = build_model(opt)
    assert type(model.optimizer_g) is getattr(torch.optim, name) and model.optimizer_g.defaults['weight_decay'] == 0.1
    if name != 'Adam':
        with pytest.raises(NotImplementedError):
            BaseModel.get_optimizer.upstream(model, name, [], 1e-3)


@pytest.mark.parametrize('section, message', [
    ({'type': 'AdmaW', 'lr': 1e-3}, r"unknown optimizer 'AdmaW' \(did you mean 'AdamW'\?\)"),
    ({'type': 'Adam', 'lr': 1e-3, 'beta': [0.9, 0.99]},
     r"unknown option 'train.optim.beta' \(did you mean 'betas'\?\); train.optim takes lr, betas"),
    ({'type': 'Adam', 'lr': -1.0}, 'Adam refuses lr: -1.0: Invalid learning rate'),
    ({'type': 'Adam', 'lr': 'small'}, 'Adam refuses lr: small'),
])
def test_an_optimizer_that_cannot_be_made_is_explained(opt, section, message):
    opt['train']['optim_g'] = section
    with pytest.raises(InputError, match=message):
        build_model(opt)


def test_the_moving_average_copies_buffers(opt):
    model = build_model(opt)
    model.net_g, model.net_g_ema = torch.nn.BatchNorm2d(2), torch.nn.BatchNorm2d(2)
    with torch.no_grad():
        model.net_g.weight.fill_(3)
    model.net_g.running_mean.fill_(5)
    model.net_g.num_batches_tracked.fill_(7)
    BaseModel.model_ema.upstream(model, 0.5)
    assert model.net_g_ema.weight[0] == 2 and model.net_g_ema.running_mean[0] == 0
    model.model_ema(0.5)
    assert model.net_g_ema.weight[0] == 2.5
    assert model.net_g_ema.running_mean[0] == 5 and model.net_g_ema.num_batches_tracked == 7


# ----- several processes -----


def test_without_torchrun_the_command_is_told(monkeypatch):
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR'):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(KeyError):
        dist_util._init_dist_pytorch.upstream('nccl')
    with pytest.raises(InputError, match='torchrun --nproc_per_node 2 -m diffrwkvir_arch train -opt FILE --launcher'):
        dist_util._init_dist_pytorch('nccl')


@pytest.fixture
def slurm(one_rank, monkeypatch, tmp_path):
    """The environment of the first task of two nodes; scontrol knows their names."""
    (tmp_path / 'scontrol').write_text('#!/bin/sh\ntest "$*" = "show hostname node[1-2]" && echo 127.0.0.1 && echo b\n')
    (tmp_path / 'scontrol').chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path), prepend=':')
    for name, value in {'PROCID': '0', 'NTASKS': '1', 'NODELIST': 'node[1-2]', 'LOCALID': '0'}.items():
        monkeypatch.setenv(f'SLURM_{name}', value)
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR'):
        monkeypatch.setenv(name, '')


def test_outside_of_slurm_the_command_is_told():
    with pytest.raises(InputError, match='needs to be started by srun'):
        dist_util._init_dist_slurm('nccl')


def test_slurms_variables_become_torchruns(slurm):
    dist_util._init_dist_slurm('nccl', port=0)
    assert dist.get_backend() == 'gloo' and dist.get_world_size() == 1


@pytest.mark.parametrize('visible, device', [(1, 0), (4, 1)])
def test_slurms_tasks_take_their_own_gpu_whether_they_see_it_alone_or_all(slurm, monkeypatch, visible, device):
    chosen = []
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: visible)
    monkeypatch.setattr(torch.cuda, 'set_device', chosen.append)
    monkeypatch.setattr(dist, 'init_process_group', lambda backend, timeout: chosen.append(backend))
    monkeypatch.setenv('SLURM_LOCALID', '1')
    dist_util._init_dist_slurm('nccl')
    assert chosen == [device, 'nccl']


@pytest.fixture
def one_rank(monkeypatch):
    """The environment of torchrun --nproc_per_node 1, on a machine without CUDA."""
    environment = {'RANK': '0', 'WORLD_SIZE': '1', 'LOCAL_RANK': '0', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': '0'}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 0)
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


def test_on_the_cpu_processes_talk_through_gloo_and_models_are_wrapped_without_devices(opt, one_rank):
    with pytest.raises(ZeroDivisionError):
        dist_util._init_dist_pytorch.upstream('nccl')
    dist_util._init_dist_pytorch('nccl')
    assert dist.get_backend() == 'gloo'
    opt.update(dist=True, find_unused_parameters=True)
    model = build_model(opt)
    assert isinstance(model.net_g, torch.nn.parallel.DistributedDataParallel)
    # Rank 0 alone validates: a forward of its own must not wait for the others.
    assert model.net_g.broadcast_buffers is False and model.net_g.find_unused_parameters
    with pytest.raises((RuntimeError, AssertionError)):
        BaseModel.model_to_device.upstream(model, torch.nn.Linear(1, 1))


def test_the_device_is_that_of_the_local_rank(one_rank, monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 4)
    monkeypatch.setattr(torch.cuda, 'set_device', chosen.append)
    monkeypatch.setattr(dist, 'init_process_group', lambda backend, timeout: chosen.append(backend))
    monkeypatch.setenv('RANK', '5')
    monkeypatch.setenv('LOCAL_RANK', '3')
    dist_util._init_dist_pytorch('nccl')
    assert chosen == [3, 'nccl']
    monkeypatch.setenv('LOCAL_RANK', '4')
    with pytest.raises(InputError, match='asks for at least 5 GPUs, 4 are visible'):
        dist_util._init_dist_pytorch('nccl')


def test_one_process_takes_as_many_gpus_as_num_gpu_says(opt, monkeypatch):
    model, taken = build_model(opt), []
    model.opt['num_gpu'] = 2
    monkeypatch.setattr('torch.cuda.device_count', lambda: 4)
    monkeypatch.setattr('diffrwkvir_arch.toolbox.distributed.DataParallel',
                        lambda net, device_ids=None: taken.append(device_ids))
    model.model_to_device(torch.nn.Linear(1, 1))
    assert taken == [[0, 1]]


# ----- log lines and small operations -----


def test_the_last_line_has_no_negative_time_left(opt, monkeypatch):
    clock = {'now': 0.}
    monkeypatch.setattr('basicsr.utils.logger.time', type('Clock', (), {'time': staticmethod(lambda: clock['now'])}))

    def last_line(init):
        clock['now'] = 0.
        logger = object.__new__(MessageLogger)
        init(logger, opt, 0)
        lines = []
        logger.logger = type('Log', (), {'info': staticmethod(lines.append)})
        clock['now'] = 600.
        logger({'epoch': 0, 'iter': 6, 'lrs': [1e-3], 'time': 1., 'data_time': 0.})
        return lines[0]

    assert 'eta: -1 day' in last_line(MessageLogger.__init__.upstream)
    assert 'eta: 0:00:00' in last_line(MessageLogger.__init__)


def test_jpeg_degradation_takes_a_fractional_quality():
    image = np.full((8, 8, 3), 0.5, np.float32)
    with pytest.raises(cv2.error):
        degradations.add_jpg_compression.upstream(image, 80.4)
    expected = degradations.add_jpg_compression.upstream(image, 80)
    assert np.array_equal(degradations.add_jpg_compression(image, 80.4), expected)


def test_a_metric_without_ground_truth_says_so():
    data, opt = {'img': np.zeros((16, 16, 3), np.uint8)}, {'type': 'calculate_psnr', 'crop_border': 0}
    with pytest.raises(TypeError, match='img2'):
        calculate_metric.upstream(data, dict(opt))
    with pytest.raises(InputError, match='calculate_psnr compares with a ground truth'):
        calculate_metric(data, dict(opt))
    assert calculate_metric({**data, 'img2': data['img'] + 1}, dict(opt)) > 40


@pytest.mark.parametrize('metric, border', [('psnr', 16), ('psnr', 1000), ('ssim', 11), ('ssim', 16)])
@pytest.mark.parametrize('order', ['HWC', 'CHW'])
def test_what_lies_within_its_border_is_nan_with_one_line(metric, border, order, recwarn):
    image = np.zeros((32, 40, 3) if order == 'HWC' else (3, 32, 40), np.uint8)
    opt = {'type': f'calculate_{metric}', 'crop_border': border, 'input_order': order}
    assert math.isnan(calculate_metric({'img': image, 'img2': image}, opt))
    (warning, ) = recwarn
    assert 'is nan: an image of 40x32 pixels has less than' in str(warning.message)
    least = 11 if metric == 'ssim' else 1
    assert calculate_metric({'img': image, 'img2': image}, {**opt, 'crop_border': (32 - least) // 2}) >= 1


# ----- Ctrl-C -----


@pytest.fixture
def stopping_now(monkeypatch):
    """As if a signal had come."""
    monkeypatch.setattr(stop_request, 'active', True)
    monkeypatch.setattr(stop_request, 'requested_at', 0.)


def test_a_signal_saves_before_the_next_iteration(opt, stopping_now):
    model = build_model(opt)
    with pytest.raises(TrainingStopped, match=r'stopped after iteration 4, saved as .*4\.state; .*--auto_resume'):
        model.update_learning_rate(5)
    assert torch.load(os.path.join(opt['path']['training_states'], '4.state'))['iter'] == 4
    assert os.path.isfile(os.path.join(opt['path']['models'], 'net_g_4.pth'))
    BaseModel.update_learning_rate.upstream(model, 5)  # goes on


def test_before_the_first_iteration_there_is_nothing_to_save(opt, stopping_now):
    model = build_model(opt)
    with pytest.raises(TrainingStopped, match='nothing to save'):
        model.update_learning_rate(1)
    assert os.listdir(opt['path']['training_states']) == []


def test_outside_the_command_signals_are_left_alone(opt, monkeypatch):
    model = build_model(opt)
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(stop_request, 'requested_at', 0.)
    model.update_learning_rate(5)
    assert signal.getsignal(signal.SIGINT) is before


def test_the_first_signal_asks_and_the_second_stops(monkeypatch, capfd):
    now = {'time': 5.}
    monkeypatch.setattr(stopping, 'time', type('Clock', (), {'monotonic': staticmethod(lambda: now['time'])}))
    before, request = signal.getsignal(signal.SIGTERM), StopRequest()
    with pytest.raises(KeyboardInterrupt):
        with request.on_signals():
            assert request.requested_at is None
            os.kill(os.getpid(), signal.SIGTERM)
            assert request.requested_at == 5. and 'finishing this iteration' in capfd.readouterr().err
            os.kill(os.getpid(), signal.SIGINT)  # the launcher's copy of the same press
            now['time'] = 9.
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before and not request.active


def test_announcements_ask_too_but_never_stop_at_once_and_what_is_taken_stays_so(monkeypatch):
    now = {'time': 5.}
    monkeypatch.setattr(stopping, 'time', type('Clock', (), {'monotonic': staticmethod(lambda: now['time'])}))
    request = StopRequest()
    # As by nohup.
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with request.on_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            assert request.requested_at is None
            os.kill(os.getpid(), signal.SIGUSR1)
            assert request.requested_at == 5.
            now['time'] = 9.
            os.kill(os.getpid(), signal.SIGUSR2)
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_leaves_a_running_validation(opt, capfd):
    model = build_model(opt)
    seen = []

    def validate(dataloader, current_iter, tb_logger, save_img):
        seen.append(current_iter)
        os.kill(os.getpid(), signal.SIGINT)
        seen.append('not reached')

    model.nondist_validation = validate
    with stop_request.on_signals():
        model.validation(None, 5, None)
        assert seen == [5] and stop_request.requested_at is not None
        model.validation(None, 6, None)  # the next dataset is not begun
        assert seen == [5]
        with pytest.raises(TrainingStopped, match='after iteration 5'):
            model.update_learning_rate(6)
    stop_request.__init__()


def test_the_final_validation_counts_the_iterations_there_were(opt):
    model, seen = build_model(opt), []
    model.nondist_validation = lambda dataloader, current_iter, *rest: seen.append(current_iter)
    model.validation(None, 7, None)
    model.opt['is_train'] = False
    model.validation(None, 'name', None)
    BaseModel.validation.upstream(model, None, 7, None)
    assert seen == [6, 'name', 7]


def start_training(path, *flags):
    """A training in a process group of its own, once its first iterations are logged."""
    process = subprocess.Popen([sys.executable, '-m', 'diffrwkvir_arch', 'train', '-opt', path, *flags],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    for line in process.stderr:
        if 'lr:(' in line:
            return process
    raise AssertionError(f'training ended with {process.wait()}')


@pytest.fixture
def endless(options):
    """Options of a training that ends by signals alone, with a worker that loads its data."""
    options['train']['total_iter'] = options['logger']['save_checkpoint_freq'] = 100000
    options['datasets']['train']['num_worker_per_gpu'] = 1
    return options


def one_alive(group):
    """Whether a process group has a process left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize('number, send', [(signal.SIGINT, os.kill), (signal.SIGTERM, os.killpg),
                                          (signal.SIGUSR1, os.killpg)])
def test_a_signal_saves_and_the_run_can_be_taken_up(endless, write_options, workdir, number, send):
    path = write_options(endless)
    process = start_training(path)
    send(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert not one_alive(process.pid)
    (state, ) = os.listdir('experiments/tiny/training_states')
    last = errors.strip().splitlines()[-1]
    assert last.startswith('basicsr: stopped after iteration') and state in last and 'Traceback' not in errors
    iteration = int(state.partition('.')[0])
    assert torch.load(f'experiments/tiny/training_states/{state}')['epoch'] == iteration // 3
    assert main(['train', '-opt', path, '--auto_resume', '--force_yml', f'train:total_iter={iteration + 2}']) == 0
    assert os.listdir('experiments') == ['tiny']


def test_a_closed_terminal_saves_too(endless, write_options, workdir):
    # While nothing is logged, which would swallow an error of the signal's own line.
    endless['logger']['print_freq'] = 50
    terminal, its = os.openpty()
    process = subprocess.Popen([sys.executable, '-m', 'diffrwkvir_arch', 'train', '-opt', write_options(endless)],
                               stdout=its, stderr=its, start_new_session=True)
    os.close(its)
    said = b''
    while b'lr:(' not in said:
        said += os.read(terminal, 10000)
    os.close(terminal)
    os.killpg(process.pid, signal.SIGHUP)
    assert process.wait(timeout=60) == 130 and not one_alive(process.pid)
    assert len(os.listdir('experiments/tiny/training_states')) == 1


# ----- two trainings of one name -----


@pytest.mark.parametrize('flags', [[], ['--auto_resume']])
def test_a_training_keeps_others_out_of_its_folder_until_it_is_dead(endless, write_options, workdir, capfd, flags):
    path = write_options(endless)
    process = start_training(path)
    try:
        assert main(['train', '-opt', path, *flags]) == 2
        error = capfd.readouterr().err.strip().splitlines()[-1]
        assert f'experiments/tiny belongs to a training that still runs (process {process.pid} on ' in error
        assert sorted(os.listdir('experiments')) == ['.tiny.lock', 'tiny']
    finally:
        process.kill()
    process.wait()
    # Its data worker is still there, for as long as it takes to see that.
    assert main(['train', '-opt', path, *flags, '--force_yml', 'train:total_iter=2']) == 0
    assert len(os.listdir('experiments')) == 2 and '.tiny.lock' not in os.listdir('experiments')
    deadline = time.monotonic() + 30
    while one_alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not one_alive(process.pid)


def test_where_locks_are_unknown_a_folder_is_everybodys(tmp_path, monkeypatch):
    monkeypatch.setattr(locking, 'fcntl', None)
    assert locking.FolderLock().take(str(tmp_path / 'experiments' / 'tiny')) is None
    assert os.listdir(tmp_path) == []
