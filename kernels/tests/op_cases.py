"""Inputs on which state evolution is easy to get wrong, and the error they are judged by."""
import importlib.util

import pytest
import torch
import torch.nn.functional as F

# name -> (decay w, step size e, correlation of successive keys), each range drawn from uniformly
REGIMES = {
    'random': ((.3, 1.), (0., 1.), 0.),
    'decay near 1': ((.9999, 1.), (0., 1.), 0.),
    'decay near 0.01': ((.008, .012), (0., 1.), 0.),
    'step near 1': ((.3, 1.), (.999, 1.), 0.),
    'nearly parallel keys': ((.3, 1.), (0., 1.), .999),
    'flat image': ((.9999, 1.), (.999, 1.), .999),
}
NUMBA = pytest.param('numba', marks=pytest.mark.skipif(not importlib.util.find_spec('numba'), reason='needs numba'))
# The operators that run on every machine; triton has tests of its own. OTHERS: all but the definition.
BODIES = ('chunked', NUMBA)
OTHERS = ('plain', *BODIES)
BACKENDS = ('recurrent', *OTHERS)
NAMES = ('q', 'k', 'v', 'log_decay', 'step_size', 'initial_state')


def make_inputs(batch=2, length=20, heads=2, q_dim=4, v_dim=3, regimes=('random',), dtype=torch.float64, seed=0):
    """q, k, v, log_decay, step_size, initial_state with `batch` samples of each regime, one regime after the other."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def uniform(low, high, *shape):
        return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)

    keys, decays, steps = [], [], []
    for regime in regimes:
        decay, step, correlation = REGIMES[regime]
        common = normal(batch, 1, heads, q_dim)
        noise = normal(batch, length, heads, q_dim)
        keys.append(F.normalize(correlation ** .5 * common + (1 - correlation) ** .5 * noise, dim=-1))
        decays.append(uniform(*decay, batch, length, heads))
        steps.append(uniform(*step, batch, length, heads))
    k = torch.cat(keys)
    q = normal(*k.shape)
    v = normal(*k.shape[:3], v_dim)
    state = normal(k.shape[0], heads, v_dim, q_dim)
    return [x.to(dtype) for x in (q, k, v, torch.cat(decays).log(), torch.cat(steps), state)]


def relative_error(x, truth):
    """Relative L2 distance of each sample, the largest of them."""
    x, truth = x.double().flatten(1), truth.double().flatten(1)
    return ((x - truth).norm(dim=1) / truth.norm(dim=1)).max().item()
