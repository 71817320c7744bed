"""Makes the chunk form an operator of PyTorch: autograd, torch.compile and FLOP counters see one node."""
from typing import Optional, Tuple

import torch
from torch import Tensor

from . import chunked
from .dtypes import compute_dtype


@torch.library.custom_op('state_evolution::chunked', mutates_args=())
def chunked_op(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, step_size: Tensor, initial_state: Optional[Tensor],
               order: Tensor, chunk_size: int, keep_states: bool) -> Tuple[Tensor, Tensor, Tensor]:
    """Arguments as `chunked.forward` -> o (B, L, H, Dv), last state (D, B, H, Dv, Dk), boundary states."""
    with torch.autocast(q.device.type, enabled=False):
        o, state, states = chunked.forward(q, k, v, log_decay, step_size, initial_state, order, chunk_size, keep_states)
    return o, state.clone().view(last_state_shape(q, v, order)), states


@torch.library.custom_op('state_evolution::chunked_backward', mutates_args=())
def chunked_backward_op(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, step_size: Tensor, states: Tensor,
                        order: Tensor, chunk_size: int, d_o: Optional[Tensor], d_state: Optional[Tensor],
                        ) -> Tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    with torch.autocast(q.device.type, enabled=False):
        return chunked.backward(q, k, v, log_decay, step_size, states, order, chunk_size, d_o, d_state)


def last_state_shape(q, v, order):
    return order.shape[0], v.shape[0], v.shape[2], v.shape[3], q.shape[3]


@chunked_op.register_fake
def _(q, k, v, log_decay, step_size, initial_state, order, chunk_size, keep_states):
    scans, batch, heads, v_dim, q_dim = shape = last_state_shape(q, v, order)
    dtype = compute_dtype(q, k, v, log_decay, step_size)
    boundaries = chunked.count_chunks(q.shape[1], chunk_size) + 1 if keep_states else 0
    return (v.new_empty(v.shape), v.new_empty(shape, dtype=dtype),
            v.new_empty(boundaries, scans * batch * heads, v_dim, q_dim, dtype=dtype))


@chunked_backward_op.register_fake
def _(q, k, v, log_decay, step_size, states, order, chunk_size, d_o, d_state):
    inputs = [x.new_empty(x.shape) for x in (q, k, v, log_decay, step_size)]
    return *inputs, states.new_empty(last_state_shape(q, v, order))


def setup_context(ctx, inputs, output):
    *tensors, initial_state, order, ctx.chunk_size, _ = inputs
    states = output[2]
    ctx.mark_non_differentiable(states)
    ctx.set_materialize_grads(False)
    ctx.initial_dtype = None if initial_state is None else initial_state.dtype
    ctx.save_for_backward(*tensors, states, order)


def differentiate(ctx, d_o, d_state, _):
    *grads, d_initial = chunked_backward_op(*ctx.saved_tensors, ctx.chunk_size, d_o, d_state)
    d_initial = None if ctx.initial_dtype is None else d_initial.to(ctx.initial_dtype)
    return *grads, d_initial, None, None, None


def refuse_second_derivative(ctx, *grads):
    raise NotImplementedError("state_evolution's chunked backend has no second derivative; backend='recurrent' has")


chunked_op.register_autograd(differentiate, setup_context=setup_context)
chunked_backward_op.register_autograd(refuse_second_derivative)
