"""One FLOP formula for the operator, for torch's FlopCounterMode and for mmengine; both count unknown operators as 0.

It counts the definition, not the body that runs: per token, head and scan the prediction k S^T, the update u^T k and
the reading q S^T are Dk * Dv multiply-adds each. FlopCounterMode finds the same number in the `recurrent` backend, and
models compare by what they compute rather than by how. The backward pass is two such products for each.
"""
from contextlib import suppress
from math import prod

import torch
from torch.utils.flop_counter import register_flop_formula

from .operators import OPERATORS


def multiply_adds(q_shape, v_shape, scans):
    """q (B, L, H, Dk) and v (B, L, H, Dv) visited `scans` times."""
    return 3 * scans * prod(q_shape) * v_shape[-1]


def forward_flops(q_shape, k_shape, v_shape, gate_shape, *args, out_shape=None, **kwargs):
    return 2 * multiply_adds(q_shape, v_shape, gate_shape[0])


def backward_flops(q_shape, k_shape, v_shape, gate_shape, *args, out_shape=None, **kwargs):
    return 4 * multiply_adds(q_shape, v_shape, gate_shape[0])


def mmengine_handle(inputs, outputs):
    """For mmengine's FlopAnalyzer, which counts multiply-adds."""
    q, _, v, gate = (value.type().sizes() for value in inputs[:4])
    return multiply_adds(q, v, gate[0])


for name in OPERATORS:
    register_flop_formula(getattr(torch.ops.state_evolution, name))(forward_flops)
    register_flop_formula(getattr(torch.ops.state_evolution, f'{name}_backward'))(backward_flops)
MMENGINE_HANDLES = {f'state_evolution::{name}': mmengine_handle for name in OPERATORS}
# mmengine registers formulas with one analyzer at a time, and get_model_complexity_info makes its own: ours join those
# that it counts by default. It may be absent, or not fit what else is installed, which is no matter here.
with suppress(Exception):
    from mmengine.analysis import complexity_analysis
    complexity_analysis._DEFAULT_SUPPORTED_FLOP_OPS.update(MMENGINE_HANDLES)
