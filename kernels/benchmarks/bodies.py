"""What is timed: the bodies of the operator and their rivals, the images they run on, and the passes."""
from functools import partial
from typing import Callable, NamedTuple

import torch
import torch.nn.functional as F
from peers import fla_2d, selective_scan_2d, selective_scan_inputs

from state_evolution import DIRECTIONS, state_evolution_2d

DTYPES = {'bf16': torch.bfloat16, 'fp32': torch.float32}


class Case(NamedTuple):
    batch: int
    size: int
    heads: int
    dim: int
    dtype: str

    def __str__(self):
        return f'{self.batch}x{self.size}x{self.size}, {self.heads}x{self.dim}, {self.dtype}'


def make_inputs(case, device, smooth=False):
    """q, k, v of one dtype and float32 gates. `smooth`: like flat parts of an image, with nearly parallel keys, little
    decay and large steps, where errors are easily amplified."""
    generator = torch.Generator(device).manual_seed(0)
    tokens = case.batch, case.size ** 2, case.heads

    def normal(*shape):
        return torch.randn(*shape, generator=generator, device=device)

    def uniform():
        return torch.rand(*tokens, generator=generator, device=device)

    q, k, v = normal(*tokens, case.dim), normal(*tokens, case.dim), normal(*tokens, case.dim)
    if smooth:
        k = .95 ** .5 * normal(case.batch, 1, case.heads, case.dim) + .05 ** .5 * k
        log_decay = (.9 + .1 * uniform()).log()
        step_size = .5 + .5 * uniform()
    else:
        log_decay, step_size = -F.softplus(normal(*tokens)), uniform()
    q, k, v = (x.to(DTYPES[case.dtype]) for x in (q, F.normalize(k, dim=-1), v))
    return [x.requires_grad_() for x in (q, k, v, log_decay, step_size)]


def make_scan_inputs(case, device):
    torch.manual_seed(0)
    channels = case.heads * case.dim
    inputs = selective_scan_inputs(case.batch, channels, case.size, DTYPES[case.dtype], device)
    return [x.requires_grad_() for x in inputs]


def in_one_call(backend, *inputs, size):
    return state_evolution_2d(*inputs, size, size, backend=backend)


def in_four_calls(*inputs, size):
    return sum(state_evolution_2d(*inputs, size, size, directions=(direction,)) for direction in DIRECTIONS)


def by_token_loop(*inputs, size):
    need_cuda(inputs)
    from token_loop import token_loop    # the one module here that needs Triton
    return token_loop(*inputs, size, size)


def by_fla(name, *inputs, size):
    need_cuda(inputs)
    return fla_2d(name, *inputs, size=size)


def by_selective_scan(*inputs, size):
    need_cuda(inputs)
    return selective_scan_2d(*inputs, size)


def need_cuda(inputs):
    if not inputs[0].is_cuda:
        raise ValueError('its kernels need a CUDA device')


class Body(NamedTuple):
    meaning: str
    run: Callable    # (*inputs, size=) -> o
    make_inputs: Callable = make_inputs    # (case, device) -> leaves that require gradients

    @property
    def is_state_evolution(self):
        return self.make_inputs is make_inputs


# In the order of the columns: ratios are to the first that runs.
BODIES = {
    'triton': Body("ours, backend='triton'", partial(in_one_call, 'triton')),
    'numba': Body("ours, backend='numba'", partial(in_one_call, 'numba')),
    'chunked': Body("ours, backend='chunked': PyTorch only", partial(in_one_call, 'chunked')),
    'four-calls': Body("ours, backend='auto', one call per direction", in_four_calls),
    'recurrent': Body("ours, backend='recurrent': a loop over tokens in PyTorch", partial(in_one_call, 'recurrent')),
    'token-loop': Body('a loop over tokens in Triton (token_loop.py)', by_token_loop),
    'gdn': Body("fla's chunk_gated_delta_rule with copies in scan order", partial(by_fla, 'gdn')),
    'kda': Body("fla's chunk_kda with copies in scan order", partial(by_fla, 'kda')),
    'rwkv7': Body("fla's chunk_rwkv7 with copies in scan order", partial(by_fla, 'rwkv7')),
    'mamba': Body("mamba_ssm's selective_scan_fn in MambaIR's SS2D, a different operator at equal channels "
                  '(expand 2, state 16)', by_selective_scan, make_scan_inputs),
}


def forward(body, inputs, do, size):
    def call():
        with torch.no_grad():
            return body.run(*inputs, size=size)
    return call


def backward(body, inputs, do, size):
    return partial(torch.autograd.grad, body.run(*inputs, size=size), inputs, do, retain_graph=True)


def forward_and_backward(body, inputs, do, size):
    return lambda: torch.autograd.grad(body.run(*inputs, size=size), inputs, do)


# name -> (body, inputs, gradient of o, size) -> what is timed, a function without arguments
PASSES = {'forward': forward, 'backward': backward, 'forward+backward': forward_and_backward}
