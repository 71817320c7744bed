"""The per-token baseline: Eq. 5 of Lu et al. (2025) as a Triton loop over tokens, with its gradients.

One program walks one stream (direction, sample, head) with the state in registers and finds its pixels by index: no
copy in scan order is made. The forward walk fetches a token ahead. The backward walk recomputes: the forward walk
leaves a state every `segment` tokens; each segment is walked once more to write the state before every token, then
walked back. Every direction writes results of its own, which are summed. Nothing here is tuned.
"""
from math import isqrt

import torch
import triton
import triton.language as tl

from state_evolution import DIRECTIONS

MAX_ELEMENTS = 2 ** 31    # offsets are 32-bit integers


@triton.jit
def token_row(t, direction, sample, head, heads, height, width):
    """Where in (B, L, H) the t-th token of a direction lies, the directions in the order of DIRECTIONS."""
    length = height * width
    t = tl.where(direction % 2 == 1, length - 1 - t, t)
    pixel = tl.where(direction >= 2, (t % height) * width + t // height, t)
    return (sample * length + pixel) * heads + head


@triton.jit
def stream_of_program(batch, heads):
    stream = tl.program_id(0)
    return stream, stream // (batch * heads), stream // heads % batch, stream % heads


@triton.jit
def load_vector(pointer, row, width: tl.constexpr, lanes: tl.constexpr):
    lane = tl.arange(0, lanes)
    return tl.load(pointer + row * width + lane, mask=lane < width, other=0.).to(tl.float32)


@triton.jit
def store_vector(pointer, row, x, width: tl.constexpr, lanes: tl.constexpr):
    lane = tl.arange(0, lanes)
    tl.store(pointer + row * width + lane, x, mask=lane < width)


@triton.jit
def load_gates(log_decay_ptr, step_ptr, row):
    return tl.exp(tl.load(log_decay_ptr + row).to(tl.float32)), tl.load(step_ptr + row).to(tl.float32)


@triton.jit
def matrix_offsets(number, BV: tl.constexpr, BK: tl.constexpr):
    """Of the number-th of many matrices (BV, BK)."""
    return number * (BV * BK) + tl.arange(0, BV)[:, None] * BK + tl.arange(0, BK)[None, :]


@triton.jit
def forward_kernel(q_ptr, k_ptr, v_ptr, log_decay_ptr, step_ptr, o_ptr, kept_ptr, batch, heads, height, width, segment,
                   K: tl.constexpr, V: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, KEEP: tl.constexpr):
    stream, direction, sample, head = stream_of_program(batch, heads)
    length = height * width
    rows = batch * length * heads
    segments = tl.cdiv(length, segment)
    state = tl.zeros((BV, BK), tl.float32)

    row = token_row(0, direction, sample, head, heads, height, width)
    q = load_vector(q_ptr, row, K, BK)
    k = load_vector(k_ptr, row, K, BK)
    v = load_vector(v_ptr, row, V, BV)
    w, e = load_gates(log_decay_ptr, step_ptr, row)
    for t in range(length):
        next_row = token_row(tl.minimum(t + 1, length - 1), direction, sample, head, heads, height, width)
        next_q = load_vector(q_ptr, next_row, K, BK)
        next_k = load_vector(k_ptr, next_row, K, BK)
        next_v = load_vector(v_ptr, next_row, V, BV)
        next_w, next_e = load_gates(log_decay_ptr, step_ptr, next_row)

        if KEEP:
            if t % segment == 0:
                tl.store(kept_ptr + matrix_offsets(stream * segments + t // segment, BV, BK), state)
        error = v - tl.sum(state * k[None, :], axis=1)
        state = w * state + (e * error)[:, None] * k[None, :]
        store_vector(o_ptr, direction * rows + row, tl.sum(state * q[None, :], axis=1), V, BV)
        row, q, k, v, w, e = next_row, next_q, next_k, next_v, next_w, next_e


@triton.jit
def backward_kernel(q_ptr, k_ptr, v_ptr, log_decay_ptr, step_ptr, do_ptr, kept_ptr, states_ptr,
                    dq_ptr, dk_ptr, dv_ptr, dlog_decay_ptr, dstep_ptr, batch, heads, height, width, segment,
                    K: tl.constexpr, V: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr):
    stream, direction, sample, head = stream_of_program(batch, heads)
    length = height * width
    rows = batch * length * heads
    segments = tl.cdiv(length, segment)
    d_state = tl.zeros((BV, BK), tl.float32)

    for passed in range(segments):
        this = segments - 1 - passed
        first = this * segment
        last = tl.minimum(first + segment, length) - 1

        state = tl.load(kept_ptr + matrix_offsets(stream * segments + this, BV, BK))
        for t in range(first, last + 1):
            tl.store(states_ptr + matrix_offsets(stream * segment + t - first, BV, BK), state)
            row = token_row(t, direction, sample, head, heads, height, width)
            k = load_vector(k_ptr, row, K, BK)
            v = load_vector(v_ptr, row, V, BV)
            w, e = load_gates(log_decay_ptr, step_ptr, row)
            error = v - tl.sum(state * k[None, :], axis=1)
            state = w * state + (e * error)[:, None] * k[None, :]
        # What some threads wrote, others read, here and again when the next segment overwrites it.
        tl.debug_barrier()

        for back in range(last - first + 1):
            t = last - back
            row = token_row(t, direction, sample, head, heads, height, width)
            q = load_vector(q_ptr, row, K, BK)
            k = load_vector(k_ptr, row, K, BK)
            v = load_vector(v_ptr, row, V, BV)
            do = load_vector(do_ptr, row, V, BV)
            w, e = load_gates(log_decay_ptr, step_ptr, row)
            before = tl.load(states_ptr + matrix_offsets(stream * segment + t - first, BV, BK))

            error = v - tl.sum(before * k[None, :], axis=1)
            after = w * before + (e * error)[:, None] * k[None, :]
            d_state += do[:, None] * q[None, :]
            written = tl.sum(d_state * k[None, :], axis=1)    # gradient of e_t u_t
            d_error = e * written

            out = direction * rows + row
            store_vector(dq_ptr, out, tl.sum(after * do[:, None], axis=0), K, BK)
            dk = tl.sum(d_state * (e * error)[:, None], axis=0) - tl.sum(before * d_error[:, None], axis=0)
            store_vector(dk_ptr, out, dk, K, BK)
            store_vector(dv_ptr, out, d_error, V, BV)
            tl.store(dlog_decay_ptr + out, w * tl.sum(tl.sum(d_state * before, axis=1), axis=0))
            tl.store(dstep_ptr + out, tl.sum(error * written, axis=0))
            d_state = w * d_state - d_error[:, None] * k[None, :]
        tl.debug_barrier()


class TokenLoop(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, log_decay, step_size, height, width, keep_states):
        inputs = [x.contiguous() for x in (q, k, v, log_decay, step_size)]
        sizes, shapes = launch_sizes(q, v, height, width)
        streams, segments = len(DIRECTIONS) * q.shape[0] * q.shape[2], -(-height * width // sizes['segment'])
        o = v.new_empty(len(DIRECTIONS), *v.shape, dtype=torch.float32)
        kept = o.new_empty(streams * segments if keep_states else 0, shapes['BV'], shapes['BK'])
        refuse_large(o, kept)
        forward_kernel[streams,](*inputs, o, kept, *sizes.values(), **shapes, KEEP=keep_states, num_warps=warps(shapes))
        ctx.save_for_backward(*inputs, kept)
        ctx.height, ctx.width = height, width
        return o.sum(0).to(v.dtype)

    @staticmethod
    def backward(ctx, do):
        *inputs, kept = ctx.saved_tensors
        q, _, v, *_ = inputs
        sizes, shapes = launch_sizes(q, v, ctx.height, ctx.width)
        streams = len(DIRECTIONS) * q.shape[0] * q.shape[2]
        states = kept.new_empty(streams * sizes['segment'], shapes['BV'], shapes['BK'])
        grads = [x.new_empty(len(DIRECTIONS), *x.shape, dtype=torch.float32) for x in inputs]
        refuse_large(states, *grads)
        backward_kernel[streams,](*inputs, do.contiguous(), kept, states, *grads, *sizes.values(), **shapes,
                                  num_warps=warps(shapes))
        return *(grad.sum(0).to(x.dtype) for grad, x in zip(grads, inputs)), None, None, None


def launch_sizes(q, v, height, width):
    """The integers of the kernels in their order, and their compile-time widths."""
    batch, length, heads, q_dim = q.shape
    v_dim = v.shape[-1]
    # Kept and recomputed states take the least room together when they are equally many.
    sizes = {'batch': batch, 'heads': heads, 'height': height, 'width': width, 'segment': isqrt(length - 1) + 1}
    shapes = {'K': q_dim, 'V': v_dim, 'BK': triton.next_power_of_2(q_dim), 'BV': triton.next_power_of_2(v_dim)}
    return sizes, shapes


def warps(shapes):
    """A thread holds at most 32 elements of a state, for a backward walk holds several such matrices."""
    return max(1, min(8, shapes['BK'] * shapes['BV'] // 1024))


def refuse_large(*tensors):
    for x in tensors:
        if x.numel() >= MAX_ELEMENTS:
            raise ValueError(f'offsets are 32-bit: a buffer of {tuple(x.shape)} has {x.numel()} elements')


def token_loop(q, k, v, log_decay, step_size, height, width):
    """As `state_evolution_2d` with all four directions and gates (B, L, H); state and sums in float32.

    Raises:
        ValueError: a buffer would have 2^31 elements or more.
    """
    inputs = (q, k, v, log_decay, step_size)
    keep_states = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    return TokenLoop.apply(*inputs, height, width, keep_states)
