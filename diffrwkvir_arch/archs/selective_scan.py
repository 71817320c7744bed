"""Selective scan of Mamba (Gu and Dao 2023, Algorithm 2), the recurrence inside MambaIR and MambaIRv2.

For every sequence, group g, channel d and state n, from h_0 = 0:

    h_t = exp(delta_t A) h_{t-1} + delta_t u_t B_t        A (G, D, N), B_t and C_t (G, N)
    y_t = sum over n of C_t h_t                           u_t, delta_t, y_t (G, D)

CUDA tensors go through the kernel of mamba_ssm where that is installed. All else but torch.export is computed by
chunks of tokens: states exist for one chunk at a time, and the backward pass computes them anew from the states between
chunks.
"""
import functools
from itertools import pairwise
from math import isqrt, prod
from typing import Tuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

# States of a chunk: on a CPU they should stay in the cache, on a GPU they should fill the device.
CHUNK_ELEMENTS_CPU = 2 ** 19
CHUNK_ELEMENTS_GPU = 2 ** 24
# With fewer, the states that training keeps between chunks would outweigh the inputs.
MIN_CHUNK_TOKENS = 16


def selective_scan(u, delta, A, B, C):
    """The recurrence above.

    Args:
        u, delta (Tensor): (batch, L, G, D); delta >= 0.
        A (Tensor): (G, D, N), <= 0, so that no exponent is positive.
        B, C (Tensor): (batch, L, G, N).

    Returns:
        Tensor: y (batch, L, G, D), float64 if u is, else float32, as the states are.
    """
    dtype = torch.float64 if u.dtype == torch.float64 else torch.float32
    u, delta, A, B, C = (x.to(dtype) for x in (u, delta, A, B, C))
    if torch.compiler.is_exporting():
        return plain(u, delta, A, B, C)
    kernel = mamba_kernel() if u.is_cuda and dtype == torch.float32 else None
    if kernel is not None:
        return through_kernel(kernel, u, delta, A, B, C)
    keep_states = torch.is_grad_enabled() and any(x.requires_grad for x in (u, delta, A, B, C))
    return scan_op(u, delta, A, B, C, row_length(u, A), keep_states)[0]


def plain(u, delta, A, B, C):
    """The same in PyTorch's own operators, which exported programs have to do with: all states at once, by doubling.

    Source: Hillis and Steele, Data parallel algorithms (1986).
    """
    decay, h, step = (delta[..., None] * A).exp(), outer(u * delta, B), 1    # (batch, L, G, D, N)

    def earlier(x):
        return F.pad(x[:, :-step], (0, 0) * 3 + (step, 0))

    while step < h.shape[1]:
        h, decay = h + decay * earlier(h), decay * earlier(decay)
        step *= 2
    return (h * C[..., None, :]).sum(-1)


@functools.cache
def mamba_kernel():
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except ImportError:
        return None
    return selective_scan_fn


def through_kernel(kernel, u, delta, A, B, C):
    u, delta = (x.flatten(2).mT.contiguous() for x in (u, delta))    # (batch, G * D, L)
    B, C = (x.permute(0, 2, 3, 1).contiguous() for x in (B, C))      # (batch, G, N, L)
    return kernel(u, delta, A.flatten(0, 1), B, C).mT.unflatten(2, A.shape[:2])


def affordable(u, A):
    """How many steps of one sequence a chunk's states may stand for."""
    return (CHUNK_ELEMENTS_CPU if u.device.type == 'cpu' else CHUNK_ELEMENTS_GPU) // A.numel()


def samples_at_once(u, A):
    """How many sequences of the batch are scanned side by side."""
    return max(1, min(len(u), affordable(u, A) // MIN_CHUNK_TOKENS))


def row_length(u, A):
    """A chunk is the square of this many tokens, a power of two: see `walk`."""
    tokens = min(u.shape[1], max(affordable(u, A) // samples_at_once(u, A), MIN_CHUNK_TOKENS))
    row = 1
    while (2 * row) ** 2 <= tokens:
        row *= 2
    return row


def walk(decay, h, carry, reverse=False):
    """h_t += decay_t h_{t-1} in place, t = 0..T-1, entered with h_{-1} = carry; in reverse from T-1 down.

    All rows of sqrt(T) tokens walk side by side; then each takes what the row before it left: 2 sqrt(T) steps, not T.

    Args:
        decay, h (Tensor): (T, ...), T a square; decay is overwritten.
        carry (Tensor): (...).

    Returns:
        Tensor: The last h reached, a view.
    """
    row = isqrt(len(h))
    decay, h = (x.unflatten(0, (row, row)) for x in (decay, h))
    order = slice(None, None, -1) if reverse else slice(None)
    columns = list(zip(decay.unbind(1), h.unbind(1)))[order]
    for (decay_before, before), (decay_now, now) in pairwise(columns):
        now.addcmul_(decay_now, before)
        decay_now.mul_(decay_before)
    for decay_row, h_row in list(zip(decay, h))[order]:
        carry = h_row.addcmul_(decay_row, carry)[0 if reverse else -1]
    return carry


def to_chunks(x, row):
    """(batch, L, G, D) -> (chunks, row^2, batch, G, D); zeros at the end, where delta = 0 leaves the state alone."""
    size = row ** 2
    return F.pad(x.transpose(0, 1), (0, 0) * 3 + (0, -x.shape[1] % size)).unflatten(0, (-1, size)).contiguous()


def from_chunks(x, length):
    return x.flatten(0, 1)[:length].transpose(0, 1).contiguous()


def outer(x, y):
    """(..., D), (..., N) -> (..., D, N)."""
    return x[..., None] * y[..., None, :]


def contract(h, x):
    """h (T, batch, G, D, N) times x (T, batch, G, N) -> (T, batch, G, D)."""
    return torch.bmm(h.flatten(0, 2), x.flatten(0, 2)[..., None]).view(h.shape[:-1])


def forward(u, delta, B, C, A, row, keep_states):
    """Arguments and result as `scan_op`, for few sequences."""
    length = u.shape[1]
    x, delta, B, C = (to_chunks(x, row) for x in (u * delta, delta, B, C))
    y = torch.empty_like(x)
    state = A.new_zeros(len(u), *A.shape)
    states = A.new_empty(len(x) if keep_states else 0, *state.shape)
    for n in range(len(x)):
        if keep_states:
            states[n] = state
        h = outer(x[n], B[n])
        state = walk((delta[n, ..., None] * A).exp_(), h, state)
        y[n] = contract(h, C[n])
    return from_chunks(y, length), states


def backward(u, delta, B, C, d_y, states, A, row):
    """-> gradients of u, delta, B, C and A, for few sequences."""
    length = u.shape[1]
    u, delta, B, C, d_y = (to_chunks(x, row) for x in (u, delta, B, C, d_y))
    # A chunk's last state decays by the first token of the next.
    following = torch.cat([delta[1:, :1], torch.zeros_like(delta[:1, :1])])
    d_u, d_delta, d_B, d_C = (torch.empty_like(x) for x in (u, delta, B, C))
    d_A, d_state = torch.zeros_like(A), torch.zeros_like(states[0])
    for n in reversed(range(len(u))):
        x = u[n] * delta[n]
        decay = (torch.cat([delta[n], following[n]])[..., None] * A).exp_()
        h = torch.empty_like(decay)
        h[0] = states[n]
        torch.mul(x[..., None], B[n, ..., None, :], out=h[1:])
        walk(decay[:-1].clone(), h[1:], h[0])
        d_C[n] = contract(h[1:].mT, d_y[n])
        decayed = decay[:-1] * h[:-1]
        d_h = outer(d_y[n], C[n])
        d_state = walk(decay[1:], d_h, d_state, reverse=True)
        d_B[n] = contract(d_h.mT, x)
        d_x = contract(d_h, B[n])
        d_exponent = decayed.mul_(d_h)    # of delta A
        d_u[n] = d_x * delta[n]
        d_delta[n] = torch.addcmul((d_exponent * A).sum(-1), d_x, u[n])
        d_A += d_exponent.mul_(delta[n, ..., None]).sum((0, 1))
    return *(from_chunks(x, length) for x in (d_u, d_delta, d_B, d_C)), d_A


@torch.library.custom_op('mambair::selective_scan', mutates_args=())
def scan_op(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, row: int, keep_states: bool,
            ) -> Tuple[Tensor, Tensor]:
    """-> y (batch, L, G, D), states that enter the chunks (chunks, batch, G, D, N) or, if not kept, (0, ...)."""
    with torch.autocast(u.device.type, enabled=False):
        parts = zip(*(x.split(samples_at_once(u, A)) for x in (u, delta, B, C)))
        y, states = zip(*(forward(*part, A, row, keep_states) for part in parts))
        return torch.cat(y), torch.cat(states, dim=1)


@torch.library.custom_op('mambair::selective_scan_backward', mutates_args=())
def backward_op(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, states: Tensor, row: int, d_y: Tensor,
                ) -> Tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    with torch.autocast(u.device.type, enabled=False):
        samples = samples_at_once(u, A)
        parts = zip(*(x.split(samples) for x in (u, delta, B, C, d_y)), states.split(samples, dim=1))
        *gradients, d_A = zip(*(backward(*part, A, row) for part in parts))
        d_u, d_delta, d_B, d_C = (torch.cat(x) for x in gradients)
        return d_u, d_delta, sum(d_A), d_B, d_C


@scan_op.register_fake
def _(u, delta, A, B, C, row, keep_states):
    chunks = -(-u.shape[1] // row ** 2) if keep_states else 0
    return u.new_empty(u.shape), A.new_empty(chunks, u.shape[0], *A.shape)


@backward_op.register_fake
def _(u, delta, A, B, C, states, row, d_y):
    return tuple(x.new_empty(x.shape) for x in (u, delta, A, B, C))


def setup_context(ctx, inputs, output):
    *tensors, ctx.row, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*tensors, output[1])


def differentiate(ctx, d_y, _):
    return *backward_op(*ctx.saved_tensors, ctx.row, d_y), None, None


scan_op.register_autograd(differentiate, setup_context=setup_context)


@register_flop_formula(torch.ops.mambair.selective_scan)
def forward_flops(u_shape, delta_shape, A_shape, *args, out_shape=None, **kwargs):
    """9 per token and state, as MambaIR's authors count whatever computes it."""
    return 9 * u_shape[0] * u_shape[1] * prod(A_shape)


@register_flop_formula(torch.ops.mambair.selective_scan_backward)
def backward_flops(*shapes, out_shape=None, **kwargs):
    return 2 * forward_flops(*shapes)
