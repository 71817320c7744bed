"""Parameters and FLOPs of a network, in total, by module and by operator, as torch's FlopCounterMode counts them.

A multiply-add (MAC) is two FLOPs. Matrix products, convolutions, attention and every operator with a registered formula
count; elementwise work, norms, pooling and interpolation do not. Operators without a formula that may do many
multiply-adds are listed by name. What runs outside PyTorch's dispatcher, such as kernels bound by pybind, is not seen.
"""
from collections import Counter
from typing import NamedTuple

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

# Words in the names of PyTorch's own operators that compute products.
PRODUCTS = {
    'mm', 'addmm', 'mv', 'addmv', 'dot', 'vdot', 'ger', 'addr', 'matmul', 'linear', 'trilinear', 'conv', 'convolution',
    'attention', 'transformer', 'rnn', 'lstm', 'gru', 'fft', 'cdist', 'grid', 'linalg', 'triangular', 'cholesky'
}
# Attention on the CPU, which not every PyTorch counts: operator -> FLOPs from shapes.
FORMULAS = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu:
            lambda query, key, value, *_, out_shape=None, **__: sdpa_flop_count(query, key, value)}
PYTORCH_NAMESPACES = ('aten', 'prim', 'prims', 'profiler')


class Complexity(NamedTuple):
    """What `complexity` found; modules by their path in the network, '' for the network itself.

    parameters, flops: path -> what belongs to that module itself and not to one inside it. What is shared counts once,
        where it is named first.
    by_operator: operator -> FLOPs.
    uncounted: operator that counted nothing -> calls.
    """
    parameters: Counter
    flops: Counter
    by_operator: dict
    uncounted: dict


class CalledOperators(TorchDispatchMode):
    """Counts the calls of every operator while it is entered."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls[func._overloadpacket] += 1
        return func(*args, **(kwargs or {}))


def within(counts, path=''):
    """The sum over a module and all that are inside it."""
    return sum(count for name, count in counts.items() if not path or name == path or name.startswith(f'{path}.'))


def own_parameters(net):
    """Path of a module -> number of elements of the parameters it holds itself."""
    counts = Counter()
    for name, parameter in net.named_parameters():
        counts[name.rpartition('.')[0]] += parameter.numel()
    return counts


def complexity(net: nn.Module, inputs, named=None) -> Complexity:
    """Calls net(*inputs, **named) once without gradients and counts.

    FLOPs belong to the innermost module that was running: a function that a module calls counts for that module.
    """
    paths = {module: path for path, module in net.named_modules()}
    flops, running = Counter(), []

    def enter(module, args):
        running.append([counter.get_total_flops(), 0])

    def leave(module, args, output):
        before, inside = running.pop()
        spent = counter.get_total_flops() - before
        flops[paths[module]] += spent - inside
        if running:
            running[-1][1] += spent

    hooks = [hook for module in paths
             for hook in (module.register_forward_pre_hook(enter), module.register_forward_hook(leave))]
    try:
        counter = FlopCounterMode(display=False, custom_mapping=FORMULAS)
        with torch.no_grad(), CalledOperators() as called, counter:
            net(*inputs, **(named or {}))
    finally:
        for hook in hooks:
            hook.remove()
    by_operator = {str(operator): count for operator, count in counter.get_flop_counts().get('Global', {}).items()}
    uncounted = {str(operator): calls for operator, calls in called.calls.items()
                 if operator not in counter.flop_registry and may_multiply(operator)}
    return Complexity(own_parameters(net), flops, by_operator, uncounted)


def may_multiply(operator):
    """Whether an operator may do many multiply-adds: one of PyTorch by its name, any other until told otherwise."""
    namespace, _, name = str(operator).partition('.')
    if namespace not in PYTORCH_NAMESPACES:
        return True
    return name != 'linalg_vector_norm' and not PRODUCTS.isdisjoint(name.split('_'))
