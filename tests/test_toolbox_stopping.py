"""Trainings that signals stop, and those that find another at work in their folder."""
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from basicsr.models import build_model
from basicsr.models.base_model import BaseModel

from diffrwkvir_arch.cli import main
from diffrwkvir_arch.toolbox import locking, stopping
from diffrwkvir_arch.toolbox.stopping import StopRequest, TrainingStopped, stop_request


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
