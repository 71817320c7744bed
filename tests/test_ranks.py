"""Processes of one job: which jobs are refused; what each of them draws, alike in every run."""
import random
import re
import sys

import numpy as np
import pytest
import torch
from basicsr.models import build_model
from basicsr.utils import options as basicsr_options
from loading_cases import Draws, train_loader

from diffrwkvir_arch.cli import main
from diffrwkvir_arch.toolbox import distributed
from diffrwkvir_arch.toolbox import options as toolbox_options
from diffrwkvir_arch.toolbox import repeating


@pytest.fixture
def opt(options, tmp_path):
    """The option dict of a run, as its parts get it."""
    for phase in ('train', 'val'):
        options['datasets'][phase].update(phase=phase, scale=2)
    for name in ('models', 'training_states'):
        (tmp_path / name).mkdir()
        options['path'][name] = str(tmp_path / name)
    return dict(options, is_train=True, dist=False, rank=0, world_size=1)


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()


def differ(*draws):
    """Whether no generator has drawn a number twice."""
    return all(len(set(numbers)) == len(draws) for numbers in zip(*draws))


# What Slurm tells a batch script, which runs once, of the four tasks that srun would start in it.
BATCH = {'SLURM_NTASKS': '4', 'SLURM_PROCID': '0'}
TASK = {**BATCH, 'SLURM_STEP_NUM_TASKS': '4'}


@pytest.mark.parametrize('verb', ['train', 'test'])
@pytest.mark.parametrize('environment, advice', [
    ({}, None),
    ({'RANK': '0', 'WORLD_SIZE': '1'}, None),
    # Set for other programs.
    ({'WORLD_SIZE': '2'}, None),
    ({'RANK': '0', 'WORLD_SIZE': '2'}, '2 processes .* --launcher pytorch'),
    (BATCH, None),
    (TASK, '4 tasks .* --launcher slurm'),
    ({**TASK, 'SLURM_STEP_NUM_TASKS': '1'}, None),
    # An interactive shell, srun --pty.
    ({**TASK, 'SLURM_PTY_PORT': '34889'}, None),
    # One torchrun a node.
    ({**TASK, 'RANK': '0', 'WORLD_SIZE': '8'}, '8 processes .* --launcher pytorch'),
])
def test_processes_that_would_not_know_of_each_other_are_refused(workdir, monkeypatch, capfd, verb, environment,
                                                                 advice):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main([verb, '-opt', 'missing.yml']) == 2
    assert re.search(advice or 'missing.yml does not exist', capfd.readouterr().err)
    if advice:
        launcher = advice.rpartition(' ')[2]
        assert main([verb, '-opt', 'missing.yml', '--launcher', launcher]) == 2
        assert 'missing.yml does not exist' in capfd.readouterr().err


def test_verbs_of_one_process_refuse_torchrun_alone(workdir, monkeypatch, capfd):
    monkeypatch.setenv('RANK', '0')
    monkeypatch.setenv('WORLD_SIZE', '2')
    assert main(['restore', 'missing.png']) == 2 and 'missing.png' in capfd.readouterr().err
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'none')
    assert main(['restore', 'missing.png']) == 2
    assert 'basicsr restore works in one process, and 2 were started' in capfd.readouterr().err


@pytest.mark.parametrize('model, processes, told', [
    ('SRModel', 2, True), ('RestorationModel', 2, True), ('SRModel', 1, False), ('VideoBaseModel', 2, False)])
def test_processes_that_do_nothing_in_a_test_are_told(options, write_options, monkeypatch, model, processes, told):
    said = []
    monkeypatch.setattr(distributed, 'warn', said.append)
    del options['datasets']['train'], options['train']
    file = write_options({**options, 'model_type': model})
    monkeypatch.setattr(sys, 'argv', ['basicsr test', '-opt', file])
    monkeypatch.setattr(toolbox_options, 'get_dist_info', lambda: (0, processes))
    basicsr_options.parse_options('/somewhere', is_train=False)
    assert ['one of 2 processes tests all images' in line for line in said] == [True] * told


def test_workers_of_two_ranks_draw_differently(monkeypatch):
    def drawn(rank):
        monkeypatch.setattr(repeating, 'get_dist_info', lambda: (rank, 2))
        return torch.cat(list(train_loader(Draws(), num_worker_per_gpu=1)))

    first, second = drawn(0), drawn(1)
    assert (first != second).all() and torch.equal(first, drawn(0))


def test_every_rank_draws_numbers_of_its_own_in_every_iteration(opt, monkeypatch):
    model = build_model(opt)

    def drawn(rank, iteration):
        monkeypatch.setattr(repeating, 'get_dist_info', lambda: (rank, 3))
        model.update_learning_rate(iteration)
        return draw()

    others = [drawn(rank, iteration) for rank in range(3) for iteration in (1, 2)]
    assert differ(*others) and drawn(1, 1) == others[2]


def test_every_rank_starts_from_a_seed_of_its_own(options, write_options, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['basicsr train', '-opt', write_options(options)])

    def drawn(rank):
        monkeypatch.setattr(toolbox_options, 'get_dist_info', lambda: (rank, 2))
        basicsr_options.parse_options('/somewhere')
        return draw()

    first, second = drawn(0), drawn(1)
    assert differ(first, second) and first == drawn(0)
