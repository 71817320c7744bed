"""State evolution over sequences, and the choice of the body that computes it."""
import torch
from torch.autograd.forward_ad import unpack_dual

from .backends import choose_backend
from .checks import check_inputs, checked_chunk_size
from .dtypes import compute_dtype, without_autocast
from .operators import OPERATORS
from .plain_body import forward as run_plain
from .recurrent import recurrent
from .scan_orders import scan_orders


def state_evolution(q, k, v, log_decay, step_size, *, initial_state=None, return_state=False, chunk_size=None,
                    backend='auto'):
    """Gated delta rule: a linear map S per head that learns to predict v from k, and is read by q.

        o_t = q_t S_t^T,    S_t = w_t S_{t-1} + e_t (v_t - k_t S_{t-1}^T)^T k_t,    w = exp(log_decay), e = step_size

    This is Eq. 5 of Lu et al., "Exploring Diffusion with Test-Time Training on Efficient Image Restoration" (2025).

    Args:
        q, k (B, L, H, Dk), v (B, L, H, Dv): B, L, H >= 1; Dk and Dv in 1..128.
        log_decay (B, L, H): <= 0; -inf forgets everything.
        step_size (B, L, H): in [0, 1]. With |k| <= 1 the state then cannot diverge. The values of both gates are the
            caller's promise: checking them would wait for the device.
        initial_state (B, H, Dv, Dk): zeros if None.
        return_state: also return the state after the last token.
        chunk_size: >= 1; a matter of speed, memory and rounding, which None decides by the widths. 'chunked' and
            'plain' compute so many tokens at a time, 'numba' keeps a state every so many for the backward pass; others
            ignore it.
        backend: 'recurrent', the definition, one token a step; 'chunked', any device and dtype; 'plain', the same
            without an operator of its own, for torch.export and torch.func; 'numba', compiled for the CPU; 'triton',
            for NVIDIA GPUs; 'auto', the last two where they can run, else 'chunked', and 'plain' under these two.

    Returns:
        o (B, L, H, Dv) in v's dtype; with return_state also S (B, H, Dv, Dk). States and sums are float32, or float64
        if q, k, v or a gate is.

    Raises:
        ValueError, TypeError: an argument has the wrong shape, dtype, device or name, or the backend cannot run.
    """
    check_inputs(q, k, v, {'log_decay': log_decay, 'step_size': step_size}, initial_state=initial_state)
    initial_state = None if initial_state is None else initial_state[None]
    o, state = run_scans(q, k, v, log_decay[None], step_size[None], initial_state, 1, q.shape[1], [0],
                         chunk_size, backend)
    return (o, state[0]) if return_state else o


def run_scans(q, k, v, log_decay, step_size, initial_state, height, width, directions, chunk_size, backend):
    """D scans of the same tokens, an image (height, width) read along D numbers of DIRECTIONS.

    Args:
        q, k (B, L, H, Dk), v (B, L, H, Dv); log_decay, step_size (D, B, L, H); initial_state (D, B, H, Dv, Dk) or None.

    Returns:
        o (B, L, H, Dv) summed over scans, last states (D, B, H, Dv, Dk).
    """
    inputs = (q, k, v, log_decay, step_size, initial_state)
    chunk_size = checked_chunk_size(chunk_size)
    backend = choose_backend(backend, q.device, compute_dtype(*inputs[:5]))
    if backend == 'recurrent':
        return run_recurrent(*inputs, scan_orders(height, width, directions, q.device))
    if backend == 'plain':
        return run_plain(*inputs, height, width, directions, chunk_size or 16)
    tensors = [x for x in inputs if x is not None]
    # PyTorch would take the operator for a constant.
    if not torch.compiler.is_compiling() and any(unpack_dual(x).tangent is not None for x in tensors):
        raise NotImplementedError(f"backend {backend!r} of state_evolution has no forward-mode derivative; 'plain' has")
    keep_states = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    chunk_size = min(chunk_size, q.shape[1]) if chunk_size else default_chunk_size(q, v, backend)
    o, state, _ = OPERATORS[backend](*inputs, height, width, directions, chunk_size, keep_states)
    return o, state


def default_chunk_size(q, v, backend):
    """The fastest on a CPU; longer chunks of 'chunked' would also cost accuracy where the decay is strong."""
    return 16 if backend == 'chunked' and max(q.shape[-1], v.shape[-1]) <= 64 else 32


def run_recurrent(q, k, v, log_decay, step_size, initial_state, order):
    scans, length = order.shape
    batch, _, heads, v_dim = v.shape
    dtype = compute_dtype(q, k, v, log_decay, step_size)
    with without_autocast(q.device):
        def ordered(x):    # (B, L, ...) -> (D*B, L, ...)
            x = x.to(dtype).index_select(1, order.flatten()).unflatten(1, (scans, length))
            return x.transpose(0, 1).flatten(0, 1)

        def gates(x):    # (D, B, L, H) -> (D*B, L, H)
            return torch.cat([scan.to(dtype).index_select(1, tokens) for scan, tokens in zip(x, order)])

        if initial_state is None:
            initial_state = v.new_zeros(scans, batch, heads, v_dim, k.shape[-1])
        o, state = recurrent(ordered(q), ordered(k), ordered(v), gates(log_decay), gates(step_size),
                             initial_state.to(dtype).flatten(0, 1))
        o = o.unflatten(0, (scans, batch)).transpose(0, 1).flatten(1, 2)    # (B, D*L, H, Dv)
        o = torch.zeros_like(o[:, :length]).index_add(1, order.flatten(), o)
    return o.to(v.dtype), state.unflatten(0, (scans, batch))
