"""Which body computes a call, and why one cannot."""
import warnings
from functools import cache
from importlib import import_module

import torch

BACKENDS = ('auto', 'recurrent', 'chunked', 'plain', 'numba', 'triton')


@torch.compiler.assume_constant_result
def is_transforming():
    """Whether torch.func's grad, vmap or the like is at work."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def choose_backend(backend, device, dtype):
    """The body for 'auto'; any other name as it is, if it can run.

    Args:
        device (torch.device): Of all tensors.
        dtype: float64 if any tensor is, else float32.

    Raises:
        ValueError, NotImplementedError: the name is unknown, or its body cannot run; says why.
    """
    if backend not in BACKENDS:
        raise ValueError(f'backend must be one of {BACKENDS}, got {backend!r}')
    if backend == 'auto':
        return fastest(device, dtype)
    reason = constant_why_not(backend, device, dtype)
    if reason:
        raise ValueError(f'backend {backend!r} cannot run here: {reason}')
    if is_transforming() and backend not in ('recurrent', 'plain'):
        # Under vmap PyTorch would hide from us that inputs need a gradient.
        raise NotImplementedError(f"backend {backend!r} of state_evolution does not go through torch.func; 'auto' does")
    return backend


@torch.compiler.assume_constant_result
def fastest(device, dtype):
    """The body for 'auto'."""
    if torch.compiler.is_exporting() or is_transforming():
        return 'plain'
    fast = {'cuda': 'triton', 'cpu': 'numba'}.get(device.type)
    if fast and not why_not(fast, device, dtype):
        return fast
    # That float64 is slower needs no saying.
    reason = fast and why_not(fast, device, torch.float32)
    if reason:
        warn_once(f"state_evolution takes 'chunked', which is slower: backend {fast!r} cannot run here: {reason}")
    return 'chunked'


@cache
def warn_once(text):
    warnings.warn(text, stacklevel=2)


@torch.compiler.assume_constant_result
def constant_why_not(*args):
    """torch.compile would trace a cached function."""
    return why_not(*args)


@cache
def why_not(backend, device, dtype):
    """Why a body cannot compute such tensors, or None."""
    if backend == 'numba':
        if device.type != 'cpu':
            return f"it computes tensors on the CPU, these are on {device}; 'auto' finds what can"
        try:
            body = import_module('.numba_body', __package__)
        except Exception as error:    # numba may be absent, or refuse the NumPy or the Python that it meets
            return f'numba cannot be imported ({first_line(error)}); pip install -U numba'
        return body.why_not()
    if backend == 'triton':
        try:
            body = import_module('.triton_body', __package__)
        except Exception as error:
            return f'Triton cannot be imported ({first_line(error)}); pip install -U triton'
        return body.why_not(device, dtype)
    return None


def first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0]
