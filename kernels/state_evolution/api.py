"""The operator over sequences: checks its arguments, settles dtypes and picks the body that computes it."""
import torch

from .chunked import chunked
from .recurrent import recurrent

BACKENDS = ('auto', 'recurrent', 'chunked')
MISSING_BACKENDS = ('numba', 'triton')
MAX_DIM = 128


def state_evolution(q, k, v, log_decay, step_size, *, initial_state=None, return_state=False, chunk_size=None,
                    backend='auto'):
    """Gated delta rule with a decay and a step size per token and head.

        S_t = w_t S_{t-1} + e_t (v_t - k_t S_{t-1}^T)^T k_t,    o_t = q_t S_t^T,    w_t = exp(log_decay_t), e_t = step_size_t

    Args:
        q, k (B, L, H, Dk), v (B, L, H, Dv): any L, H >= 1; Dk, Dv in 1..128.
        log_decay (B, L, H): <= 0. Not checked, for that would wait for the device.
        step_size (B, L, H): in [0, 1]; with unit-length k the state then cannot diverge. Not checked.
        initial_state (B, H, Dv, Dk): zeros where None.
        return_state: also return the state after the last token.
        chunk_size: tokens per chunk, for the chunked body; None picks one by shape.
        backend: 'auto', 'recurrent' or 'chunked'.

    Returns:
        o (B, L, H, Dv) in v's dtype; with return_state also S (B, H, Dv, Dk), float32 (float64 for float64 inputs).
    """
    check(q, k, v, log_decay, step_size, initial_state, chunk_size, backend)
    dtype = compute_dtype(q, k, v, log_decay, step_size, initial_state)
    with torch.autocast(q.device.type, enabled=False):
        if initial_state is None:
            initial_state = v.new_zeros(v.shape[0], v.shape[2], v.shape[3], k.shape[3], dtype=dtype)
        inputs = [x.to(dtype) for x in (q, k, v, log_decay, step_size, initial_state)]
        if backend == 'recurrent':
            o, state = recurrent(*inputs)
        else:
            o, state = chunked(*inputs, chunk_size)
        o = o.to(v.dtype)
    return (o, state) if return_state else o


def compute_dtype(*tensors):
    """float64 if any tensor is, else float32."""
    return torch.float64 if any(x is not None and x.dtype == torch.float64 for x in tensors) else torch.float32


def check(q, k, v, log_decay, step_size, initial_state, chunk_size, backend):
    if backend in MISSING_BACKENDS:
        raise ValueError(f'backend {backend!r} is not part of this version; {BACKENDS} work')
    if backend not in BACKENDS:
        raise ValueError(f'backend must be one of {BACKENDS}, got {backend!r}')
