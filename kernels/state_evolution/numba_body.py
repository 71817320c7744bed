"""State evolution on the CPU: arranges memory and threads around the walk that numba_kernels.py compiles."""
from contextlib import suppress

import numpy as np
import torch
from numba import config

from .backends import first_line, warn_once
from .dtypes import compute_dtype
from .numba_kernels import kernels
from .threads import on_threads

# Fewer multiply-adds than these are done before a second thread has woken up.
WORTH_A_THREAD = 2 ** 23
# For every number of a state: decay, write, read, predict; backwards these anew, and eight more.
FORWARD, BACKWARD = 4, 12


def why_not():
    """Why numba cannot compute here, or None."""
    return 'it compiles nothing with NUMBA_DISABLE_JIT set' if config.DISABLE_JIT else None


def forward(q, k, v, log_decay, step_size, initial_state, height, width, directions, chunk_size, keep_states):
    """As operators.py says."""
    (batch, length, heads, q_dim), v_dim, scans = q.shape, v.shape[-1], len(directions)
    dtype = compute_dtype(q, k, v, log_decay, step_size)
    groups = count_groups(scans, batch * heads)
    state = torch.zeros(scans, batch, heads, q_dim, v_dim, dtype=dtype)
    if initial_state is not None:
        state.copy_(initial_state.mT)
    chunks, *rest = states_shape(q, v, scans, chunk_size)
    states = torch.empty(chunks if keep_states else 0, *rest, dtype=dtype)
    o = torch.empty(groups, batch, length, heads, v_dim, dtype=dtype)

    decay = log_decay.to(dtype).exp()
    arrays, strides = memory(dtype, q[None], k[None], v[None], decay[..., None], step_size[..., None])
    sizes = batch, length, heads, height, width, groups, chunk_size
    (kernel, scratch), _ = kernels(q_dim, v_dim)
    work = FORWARD * scans * q.numel() * v_dim
    run(kernel, torch.empty(scratch(chunk_size), dtype=dtype), groups * batch * heads, work, *arrays, strides,
        *map(flat, (state, states, o)), sizes, np.array(directions))
    return sum_groups(o).to(v.dtype), state.mT.contiguous(), states


def backward(q, k, v, log_decay, step_size, states, height, width, directions, chunk_size, d_o, d_state):
    """As operators.py says."""
    (batch, length, heads, q_dim), v_dim, scans = q.shape, v.shape[-1], len(directions)
    dtype = states.dtype
    groups = count_groups(scans, batch * heads)
    d_first = torch.zeros(scans, batch, heads, q_dim, v_dim, dtype=dtype)
    if d_state is not None:
        d_first.copy_(d_state.mT)
    d_o = torch.zeros_like(v) if d_o is None else d_o
    d_q, d_k, d_v = (torch.empty(groups, batch, length, heads, dim, dtype=dtype) for dim in (q_dim, q_dim, v_dim))
    d_log_decay, d_step_size = (torch.empty(scans, batch, length, heads, dtype=dtype) for _ in range(2))

    decay = log_decay.to(dtype).exp()
    arrays, strides = memory(dtype, q[None], k[None], v[None], decay[..., None], step_size[..., None],
                             d_o[None])
    sizes = batch, length, heads, height, width, groups, chunk_size
    _, (kernel, scratch) = kernels(q_dim, v_dim)
    work = BACKWARD * scans * q.numel() * v_dim
    run(kernel, torch.empty(scratch(chunk_size), dtype=dtype), groups * batch * heads, work, *arrays, strides,
        *map(flat, (d_first, states, d_q, d_k, d_v, d_log_decay, d_step_size)), sizes, np.array(directions))
    grads = *map(sum_groups, (d_q, d_k, d_v)), d_log_decay, d_step_size
    inputs = q, k, v, log_decay, step_size
    return *(grad.to(x.dtype) for x, grad in zip(inputs, grads)), d_first.mT.contiguous()


def states_shape(q, v, scans, chunk_size):
    """The state before every chunk, transposed: (N, D, B, H, Dk, Dv)."""
    batch, length, heads, q_dim = q.shape
    return (length + chunk_size - 1) // chunk_size, scans, batch, heads, q_dim, v.shape[-1]


def count_groups(scans, heads):
    """Scans of one head add up one after the other, unless there are too few heads for the threads."""
    return min(scans, -(-torch.get_num_threads() // heads))


def sum_groups(x):
    return x[0] if len(x) == 1 else x.sum(0)


def flat(x):
    return x.view(-1).numpy()


def memory(dtype, *tensors):
    """The memory of tensors as 1-D arrays, without a copy where the dtype fits and a token's numbers lie together.

    Args:
        tensors: (D, B, L, H, dim) each, or (1, B, L, H, dim) for the same in all D scans.

    Returns:
        list of arrays; their strides along D, B, L, H, one row each.
    """
    arrays, strides = [], []
    for x in tensors:
        x = x.detach().to(dtype)
        if x.stride(-1) != 1:
            x = x.contiguous()
        span = 1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride()))
        arrays.append(x.as_strided((span,), (1,)).numpy())
        strides.append([0 if len(x) == 1 else x.stride(0), *x.stride()[1:4]])
    return arrays, np.array(strides)


def run(kernel, scratch, tasks, work, *args):
    """Calls kernel(*args, memory like scratch, start, stop) for all tasks, on as many threads as PyTorch uses.

    `work` counts the multiply-adds of all tasks. Each thread takes neighbouring tasks, the heads of one sample, for
    these lie in the same cache lines.
    """
    own = flat(scratch)
    make_ready(kernel, *args, own, 0, 0)
    threads = min(torch.get_num_threads(), tasks) if work > WORTH_A_THREAD else 1
    if threads == 1:
        kernel(*args, own, 0, tasks)
        return
    # More shares than threads: one that is held up leaves its next to the others.
    edges = [share * tasks // (2 * threads) for share in range(2 * threads + 1)]
    shares, errors = iter(list(zip(edges, edges[1:]))), []

    def work_off():
        try:
            own = flat(torch.empty_like(scratch))
            for start, stop in shares:
                kernel(*args, own, start, stop)
        except BaseException as error:
            errors.append(error)

    on_threads(work_off, threads)
    if errors:
        raise errors[0]


def make_ready(kernel, *args):
    """Calls a kernel for no task, so that it is there, compiled or from the disk, before threads ask for it."""
    try:
        kernel(*args)
    except OSError:    # what is compiled by now does not fit on the disk
        pass
    except Exception as error:
        warn_once(f'state_evolution compiles anew what numba cannot read in {kernel.stats.cache_path} '
                  f'({first_line(error)})')
        kernel.recompile()    # forgets what is there
        with suppress(OSError):
            kernel(*args)
