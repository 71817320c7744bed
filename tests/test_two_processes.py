"""`basicsr` started once per GPU: processes train as one, and one of them speaks."""
import os
import subprocess
import sys
import time

import pytest
import torch
from torch.distributed import TCPStore

from cli_cases import fail_with
from diffrwkvir_arch.cli import main
from diffrwkvir_arch.errors import InputError


@pytest.mark.parametrize('environment', [
    # As by a launcher that keeps nothing for its processes.
    {'RANK': '1', 'WORLD_SIZE': '2'},
    # Of srun's task, before it has found the others.
    {'SLURM_PROCID': '1', 'SLURM_STEP_NUM_TASKS': '2'},
])
def test_other_ranks_leave_the_word_to_the_first(monkeypatch, capfd, environment):
    pauses = []
    monkeypatch.setattr(time, 'sleep', pauses.append)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    fail_with(monkeypatch, InputError('bad'))
    assert main(['test']) == 2 and pauses == [10]
    fail_with(monkeypatch, KeyboardInterrupt())
    capfd.readouterr()
    assert main(['test']) == 130 and capfd.readouterr().err == ''


@pytest.mark.parametrize('environment', [
    {'RANK': '', 'WORLD_SIZE': ''}, {'RANK': '3', 'WORLD_SIZE': '1'},
    {'SLURM_PROCID': '3', 'SLURM_STEP_NUM_TASKS': '1'}, {'SLURM_PROCID': '0', 'SLURM_STEP_NUM_TASKS': '4'}])
def test_a_process_alone_tells_its_error_at_once_whatever_its_rank(monkeypatch, capfd, environment):
    pauses = []
    monkeypatch.setattr(time, 'sleep', pauses.append)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for error, told in ((InputError('bad'), 'basicsr: error: bad\n'), (KeyboardInterrupt(), 'basicsr: interrupted\n')):
        fail_with(monkeypatch, error)
        main(['test'])
        assert capfd.readouterr().err == told and not pauses


def test_of_torchruns_processes_the_first_to_fail_tells_and_those_that_lose_it_are_silent(monkeypatch, capfd):
    store = TCPStore('127.0.0.1', 0, is_master=True)
    for name, value in {'RANK': '1', 'WORLD_SIZE': '2', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(store.port),
                        'TORCHELASTIC_USE_AGENT_STORE': 'True', 'TORCHELASTIC_RESTART_COUNT': '0'}.items():
        monkeypatch.setenv(name, value)
    lost, bad = RuntimeError('Connection closed by peer'), InputError('bad')
    fail_with(monkeypatch, lost)
    with pytest.raises(RuntimeError):
        main(['test'])
    fail_with(monkeypatch, bad)
    assert main(['test']) == 2 and capfd.readouterr().err == 'basicsr: error: bad\n'
    for error in (bad, lost):
        fail_with(monkeypatch, error)
        assert main(['test']) == 2 and capfd.readouterr().err == ''
    with pytest.raises(RuntimeError):
        main(['test', '--debug'])
    # Those that torchrun has started again tell it again.
    monkeypatch.setenv('TORCHELASTIC_RESTART_COUNT', '1')
    fail_with(monkeypatch, bad)
    assert main(['test']) == 2 and capfd.readouterr().err == 'basicsr: error: bad\n'


def torchrun(*arguments):
    """Two processes on this machine."""
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2', *arguments]
    return subprocess.run(command, capture_output=True, text=True)


COMMAND = os.path.join(os.path.dirname(sys.executable), 'basicsr')


@pytest.mark.parametrize('start', [['-m', 'diffrwkvir_arch'], [COMMAND], ['--no-python', COMMAND]])
def test_two_processes_train_as_one_does_and_validate_and_save_once(options, workdir, write_options, start):
    options['datasets']['train']['num_worker_per_gpu'] = 1
    options['val']['val_freq'] = 3
    path = write_options(options)
    done = torchrun(*start, 'train', '-opt', path, '--launcher', 'pytorch')
    assert done.returncode == 0, done.stderr[-3000:]
    assert torch.load('experiments/tiny/training_states/6.state')['iter'] == 6
    assert done.stderr.count('End of training') == 1
    assert main(['train', '-opt', path, '--force_yml', 'name=one', 'datasets:train:batch_size_per_gpu=4']) == 0
    two, one = (torch.load(f'experiments/{name}/models/net_g_6.pth')['params'] for name in ('tiny', 'one'))
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('verb, advice', [('train', '--launcher pytorch'), ('restore', 'without torchrun')])
def test_two_processes_that_would_do_the_same_are_refused_before_anything_is_written(options, workdir, write_options,
                                                                                     verb, advice):
    path = write_options(options)
    done = torchrun('-m', 'diffrwkvir_arch', verb, *(['-opt', path] if verb == 'train' else [path]))
    (error, ) = (line for line in done.stderr.splitlines() if line.startswith('basicsr: error'))
    assert done.returncode != 0 and '2 ' in error and advice in error
    assert os.listdir() == ['tiny.yml']


def test_two_processes_tell_a_bad_option_once(options, workdir, write_options):
    options['train']['ema_deacy'] = 1
    done = torchrun('-m', 'diffrwkvir_arch', 'train', '-opt', write_options(options), '--launcher', 'pytorch')
    assert done.returncode != 0 and done.stderr.count('basicsr: error: unknown option') == 1


def test_two_processes_answer_a_mistaken_command_once():
    done = torchrun('-m', 'diffrwkvir_arch', 'train')
    assert done.returncode != 0 and done.stderr.count('usage: ') == done.stderr.count('basicsr train: error: ') == 1


def test_the_process_that_meets_an_error_tells_it_and_the_others_do_not_complain_of_its_leave(
        options, workdir, write_options, image_folders):
    # Of six images a batch of two each: one process reads it.
    (image_folders[0] / '03.png').write_bytes(b'')
    options['datasets']['train']['dataset_enlarge_ratio'] = 2
    done = torchrun('-m', 'diffrwkvir_arch', 'train', '-opt', write_options(options), '--launcher', 'pytorch')
    assert done.returncode != 0 and done.stderr.count('03.png: the image file is empty') == 1
    assert '[rank' not in done.stderr
