"""What processes draw: each of them its own, alike in every run, and nothing twice after a resumption."""
import copy
import logging
import os
import random
import sys

import basicsr.data
import basicsr.train
import numpy as np
import pytest
import torch
from basicsr.models import build_model
from basicsr.utils import options as basicsr_options
from test_toolbox_loading import Draws, train_loader

from diffrwkvir_arch.toolbox import options as toolbox_options
from diffrwkvir_arch.toolbox import resuming


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


def test_workers_of_two_ranks_draw_differently(monkeypatch):
    def drawn(rank):
        monkeypatch.setattr(basicsr.data, 'get_dist_info', lambda: (rank, 2))
        # random's and numpy's; torch's come from the loader, which has seeds alike.
        return torch.cat(list(train_loader(Draws(), num_worker_per_gpu=1)))[:, :2]

    first, second = drawn(0), drawn(1)
    assert (first != second).all() and torch.equal(first, drawn(0))


def test_a_resumed_run_draws_no_seeds_of_workers_again(opt):
    def seeds(**more):
        loader = basicsr.train.create_train_val_dataloader(copy.deepcopy({**opt, **more}), logging.getLogger())[0]
        return loader.generator.initial_seed()

    assert seeds() == opt['manual_seed'] and seeds(resumed_from=(1, 4)) == opt['manual_seed'] + 4


def test_every_rank_goes_on_with_a_random_state_of_its_own(opt, monkeypatch):
    model = build_model(opt)
    states = []
    for iteration in (3, 6):
        model.save_training_state(0, iteration)
        states.append(torch.load(os.path.join(opt['path']['training_states'], f'{iteration}.state')))
    saved = draw()

    def drawn(rank, state):
        monkeypatch.setattr(resuming, 'get_dist_info', lambda: (rank, 3))
        model.resume_training(copy.deepcopy(state))
        return draw()

    assert drawn(0, states[0]) == saved
    others = [drawn(rank, state) for rank in (1, 2) for state in states]
    assert differ(saved, *others) and drawn(1, states[0]) == others[0]


def test_every_rank_starts_from_a_seed_of_its_own(options, write_options, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['basicsr train', '-opt', write_options(options)])

    def drawn(rank):
        monkeypatch.setattr(toolbox_options, 'get_dist_info', lambda: (rank, 2))
        basicsr_options.parse_options('/somewhere')
        return draw()

    first, second = drawn(0), drawn(1)
    assert differ(first, second) and first == drawn(0)
