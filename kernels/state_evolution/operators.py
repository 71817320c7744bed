"""Makes the bodies operators of PyTorch: autograd, torch.compile and FLOP counters see one node.

A body is a module with

    forward(q, k, v, log_decay, step_size, initial_state, height, width, directions, chunk_size, keep_states)
        -> o (B, L, H, Dv), last states (D, B, H, Dv, Dk), kept states
    backward(q, k, v, log_decay, step_size, states, height, width, directions, chunk_size, d_o, d_state)
        -> gradients of forward's first six arguments; d_o or d_state may be None
    states_shape(q, v, scans, chunk_size)
        -> shape of the kept states; where none are kept, its first number is 0

for q, k (B, L, H, Dk), v (B, L, H, Dv), log_decay, step_size (D, B, L, H), initial_state (D, B, H, Dv, Dk) or None, and
D scans that `directions` lists by their place in DIRECTIONS. A sequence is an image of height 1.
"""
from importlib import import_module
from typing import List, Optional, Tuple

import torch
from torch import Tensor

from .dtypes import compute_dtype, without_autocast


def make_operator(name):
    """state_evolution::NAME and state_evolution::NAME_backward, computed by module NAME_body, imported when called."""

    def body():
        return import_module(f'.{name}_body', __package__)

    @torch.library.custom_op(f'state_evolution::{name}', mutates_args=())
    def operator(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, step_size: Tensor, initial_state: Optional[Tensor],
                 height: int, width: int, directions: List[int], chunk_size: int, keep_states: bool,
                 ) -> Tuple[Tensor, Tensor, Tensor]:
        with without_autocast(q.device):
            results = body().forward(q, k, v, log_decay, step_size, initial_state, height, width, directions,
                                     chunk_size, keep_states)
        return tuple(map(no_view, results))

    @torch.library.custom_op(f'state_evolution::{name}_backward', mutates_args=())
    def backward(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, step_size: Tensor, states: Tensor, height: int,
                 width: int, directions: List[int], chunk_size: int, d_o: Optional[Tensor], d_state: Optional[Tensor],
                 ) -> Tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        with without_autocast(q.device):
            return body().backward(q, k, v, log_decay, step_size, states, height, width, directions, chunk_size, d_o,
                                   d_state)

    @operator.register_fake
    def _(q, k, v, log_decay, step_size, initial_state, height, width, directions, chunk_size, keep_states):
        dtype = compute_dtype(q, k, v, log_decay, step_size)
        kept, *rest = body().states_shape(q, v, len(directions), chunk_size)
        return (v.new_empty(v.shape), v.new_empty(last_state_shape(q, v, directions), dtype=dtype),
                v.new_empty(kept if keep_states else 0, *rest, dtype=dtype))

    @backward.register_fake
    def _(q, k, v, log_decay, step_size, states, height, width, directions, chunk_size, d_o, d_state):
        inputs = [x.new_empty(x.shape) for x in (q, k, v, log_decay, step_size)]
        return *inputs, states.new_empty(last_state_shape(q, v, directions))

    def differentiate(ctx, d_o, d_state, _):
        if not ctx.keep_states:
            raise RuntimeError(f'backend {name!r} of state_evolution kept no states for a backward pass: '
                               'gradients were off where it was called, or traced')
        *grads, d_initial = backward(*ctx.saved_tensors, *ctx.constants, d_o, d_state)
        d_initial = None if ctx.initial_dtype is None else d_initial.to(ctx.initial_dtype)
        return *grads, d_initial, None, None, None, None, None

    def refuse_second_derivative(ctx, *grads):
        raise NotImplementedError(f"backend {name!r} of state_evolution has no second derivative; 'recurrent' has")

    operator.register_autograd(differentiate, setup_context=setup_context)
    backward.register_autograd(refuse_second_derivative)
    return operator


def no_view(x):
    """The same memory. Of what an operator returns PyTorch lets nobody change a view in place."""
    return x.new_empty(0).set_(x)


def setup_context(ctx, inputs, output):
    *tensors, initial_state, height, width, directions, chunk_size, ctx.keep_states = inputs
    states = output[2]
    ctx.mark_non_differentiable(states)
    ctx.set_materialize_grads(False)
    ctx.initial_dtype = None if initial_state is None else initial_state.dtype
    ctx.constants = height, width, directions, chunk_size
    ctx.save_for_backward(*tensors, states)


def last_state_shape(q, v, directions):
    return len(directions), v.shape[0], v.shape[2], v.shape[3], q.shape[3]


OPERATORS = {name: make_operator(name) for name in ('chunked', 'numba', 'triton')}
