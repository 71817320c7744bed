"""Random numbers that follow from what they are drawn for, whatever has been drawn before."""
import contextlib
import hashlib
import random

import numpy as np
import torch


def digest_of(*purpose):
    """32 bytes that follow from these words and numbers, and look like those of no others."""
    return hashlib.sha256(' '.join(map(str, purpose)).encode()).digest()


def generator_for(*purpose):
    """A generator of torch's that draws what follows from these words and numbers."""
    return torch.Generator().manual_seed(int.from_bytes(digest_of(*purpose)[:8], 'little'))


def seed_cpu(*purpose):
    """Lets `random`, `numpy.random` and torch on the CPU draw what follows from these words and numbers."""
    digest = digest_of(*purpose)
    random.seed(digest)
    np.random.seed(np.frombuffer(digest, '<u4'))
    # torch.manual_seed would seed GPUs, too, whose states cost more to keep.
    torch.default_generator.manual_seed(int.from_bytes(digest[:8], 'little'))


def seed_all(*purpose):
    """As seed_cpu, and every GPU."""
    seed_cpu(*purpose)
    torch.manual_seed(torch.initial_seed())


@contextlib.contextmanager
def going_on():
    """After it `random`, `numpy.random` and torch on the CPU go on as if nothing had been seeded or drawn within it."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


@contextlib.contextmanager
def drawn_for(*purpose):
    """As going_on; within it, what is drawn follows from these words and numbers."""
    with going_on():
        seed_cpu(*purpose)
        yield
