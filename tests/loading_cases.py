"""A dataset of random numbers, and its training loader."""
import random

import numpy as np
import torch
from basicsr.data import build_dataloader


class Draws(torch.utils.data.Dataset):
    """What an augmentation draws: from random, numpy and torch."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.tensor([random.random(), np.random.rand(), torch.rand(1).item()], dtype=torch.float64)


def train_loader(dataset, build=build_dataloader, **options):
    opt = {'phase': 'train', 'batch_size_per_gpu': 1, 'num_worker_per_gpu': 0, **options}
    return build(dataset, opt, num_gpu=0, sampler=None, seed=3)
