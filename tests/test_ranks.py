"""What processes draw: each of them its own, alike in every run."""
import random
import sys

import numpy as np
import pytest
import torch
from basicsr.models import build_model
from basicsr.utils import options as basicsr_options
from loading_cases import Draws, train_loader

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
