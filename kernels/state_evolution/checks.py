"""Refuses what the operator cannot compute, before anything is computed. Looks at shapes, dtypes and devices only."""
from numbers import Integral

import torch

MAX_DIM = 128
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_inputs(q, k, v, gates, *, initial_state=None, scans=None):
    """gates: name -> tensor (B, L, H), or (D, B, L, H) where `scans` gives D."""
    tensors = {'q': q, 'k': k, 'v': v, **gates}
    if initial_state is not None:
        tensors['initial_state'] = initial_state
    for name, x in tensors.items():
        if not isinstance(x, torch.Tensor):
            raise TypeError(f'{name} must be a tensor, got {type(x).__name__}')
        if x.layout != torch.strided or x.is_nested:
            raise TypeError(f'{name} must be a dense tensor, got {"a nested one" if x.is_nested else x.layout}')
        if x.dtype not in DTYPES:
            raise TypeError(f'{name} must be float16, bfloat16, float32 or float64, got {x.dtype}')
        if x.device != q.device:
            raise ValueError(f'all tensors must be on one device: q is on {q.device}, {name} on {x.device}')

    if q.dim() != 4 or 0 in q.shape:
        raise ValueError(f'q must be (B, L, H, Dk), none of them 0, got {tuple(q.shape)}')
    batch, length, heads, q_dim = q.shape
    if k.shape != q.shape:
        raise ValueError(f'k must have the shape of q, {tuple(q.shape)}, got {tuple(k.shape)}')
    if v.dim() != 4 or v.shape[:3] != q.shape[:3] or v.shape[3] == 0:
        raise ValueError(f'v must be (B, L, H, Dv) = ({batch}, {length}, {heads}, Dv), got {tuple(v.shape)}')
    v_dim = v.shape[3]
    if q_dim > MAX_DIM or v_dim > MAX_DIM:
        raise ValueError(f'Dk and Dv must be in 1..{MAX_DIM}, got q with Dk = {q_dim} and v with Dv = {v_dim}')
    allowed = [(batch, length, heads)]
    if scans is not None:
        allowed.append((scans, batch, length, heads))
    for name, gate in gates.items():
        if tuple(gate.shape) not in allowed:
            raise ValueError(f'{name} must be {" or ".join(map(str, allowed))}, got {tuple(gate.shape)}')
    if initial_state is not None and tuple(initial_state.shape) != (batch, heads, v_dim, q_dim):
        raise ValueError(f'initial_state must be (B, H, Dv, Dk) = {(batch, heads, v_dim, q_dim)}, '
                         f'got {tuple(initial_state.shape)}')


def checked_chunk_size(chunk_size):
    """None or an int."""
    if chunk_size is None:
        return None
    number = as_integer(chunk_size)
    if number is None or number < 1:
        raise ValueError(f'chunk_size must be None or an integer >= 1, got {chunk_size!r}')
    return number


def checked_image(height, width, length):
    """Both sides, as as_integer gives them."""
    sides = []
    for name, side in (('height', height), ('width', width)):
        sides.append(as_integer(side))
        if sides[-1] is None:
            raise TypeError(f'{name} must be an integer, got {side!r}')
    height, width = sides
    if height < 1 or width < 1 or height * width != length:
        raise ValueError(f'height * width must be L = {length}, got {height} * {width}')
    return height, width


def as_integer(number):
    """An integer as Python's own, for numpy's may overflow; as it is where a trace follows it; None if it is none."""
    if isinstance(number, torch.Tensor):    # torch.jit's sizes
        return number if number.dim() == 0 and number.dtype in (torch.int32, torch.int64) else None
    if isinstance(number, torch.SymInt):
        return number
    return int(number) if isinstance(number, Integral) and not isinstance(number, bool) else None
