"""Other projects' kernels at the work of `state_evolution_2d`: the arguments and the copies that they need for it.

Gated DeltaNet (Yang et al. 2024), Kimi Delta Attention (2025) and RWKV-7 (Peng et al. 2025), all from
flash-linear-attention, each contain state evolution:

    Gated DeltaNet  S_t = w S_{t-1} + b (v' - k (w S_{t-1})^T)^T k      b = e / w, v' = w v
    KDA             the same with one w per channel of k                w alike in all channels
    RWKV-7          S_t = S_{t-1} (diag(w) + a^T b) + v^T k'            a = -k, b = k' = e k, w alike in all channels

They scan sequences, so an image is copied into four of them and the results are copied back and added. MambaIR's SS2D
(Guo et al. 2024) is another operator, the selective scan, timed at an equal number of channels.
"""
from functools import cache
from importlib import import_module

import torch

EXPAND, STATE_DIM = 2, 16    # MambaIR's


@cache
def load(module, name):
    """Imports at the first call: none of these packages is a dependency.

    Raises:
        ImportError: whatever the package raised; some refuse certain versions of Triton by other errors.
    """
    try:
        return getattr(import_module(module), name)
    except Exception as error:
        raise ImportError(f'{module}.{name} cannot be imported: {type(error).__name__}: {error}') from error


def gated_delta_net_arguments(q, k, v, log_decay, step_size):
    decay = log_decay.exp()
    return {'q': q, 'k': k, 'v': (decay[..., None] * v).to(v.dtype), 'g': log_decay, 'beta': step_size / decay,
            'scale': 1.}


def kda_arguments(q, k, v, log_decay, step_size):
    arguments = gated_delta_net_arguments(q, k, v, log_decay, step_size)
    return {**arguments, 'g': log_decay[..., None].expand(k.shape).contiguous()}


def rwkv7_arguments(q, k, v, log_decay, step_size):
    written = (step_size[..., None] * k).to(k.dtype)
    return {'r': q, 'w': log_decay[..., None].expand(k.shape).contiguous(), 'k': written, 'v': v, 'a': -k,
            'b': written, 'scale': 1.}


# name -> (arguments, module, function); the functions return (o, last state)
FLA = {
    'gdn': (gated_delta_net_arguments, 'fla.ops.gated_delta_rule', 'chunk_gated_delta_rule'),
    'kda': (kda_arguments, 'fla.ops.kda', 'chunk_kda'),
    'rwkv7': (rwkv7_arguments, 'fla.ops.rwkv7', 'chunk_rwkv7'),
}


def fla_2d(name, *inputs, size):
    """q, k (B, L, H, Dk), v (B, L, H, Dv), gates (B, L, H) with L = size * size -> o (B, L, H, Dv)."""
    arguments, module, function = FLA[name]
    kernel = load(module, function)
    return sum_of_scans(kernel(**arguments(*(four_scans(x, size) for x in inputs)))[0], size)


def four_scans(x, size):
    """(B, L, ...) -> (4B, L, ...): rows, columns, and both backwards."""
    image = x.unflatten(1, (size, size))
    x = torch.cat([image, image.transpose(1, 2)]).flatten(1, 2)
    return torch.cat([x, x.flip(1)])


def sum_of_scans(x, size):
    """(4B, L, ...) -> (B, L, ...): every scan's values back at their pixels, and added."""
    there, back = x.chunk(2)
    rows, columns = (there + back.flip(1)).chunk(2)
    return rows + columns.unflatten(1, (size, size)).transpose(1, 2).flatten(1, 2)


def selective_scan_2d(x, delta, a_log, b, c, skip, delta_bias, size):
    """SS2D between its projections: copies in four orders, casts to float32, scan, and the sum of its results.

    Args:
        x (B, C, size, size).
        delta (B, 4 C, L), b, c (B, 4, N, L): in scan order, as SS2D's projections leave them.
        a_log (4 C, N), skip (4 C), delta_bias (4 C): parameters.

    Returns:
        o (B, C, L).
    """
    scan = load('mamba_ssm.ops.selective_scan_interface', 'selective_scan_fn')
    orders = torch.stack([x.flatten(2), x.transpose(2, 3).flatten(2)], dim=1)      # (B, 2, C, L)
    orders = torch.cat([orders, orders.flip(-1)], dim=1)                           # (B, 4, C, L)
    o = scan(orders.flatten(1, 2).float(), delta.float(), -a_log.float().exp(), b.float(), c.float(), skip.float(),
             delta_bias=delta_bias.float(), delta_softplus=True).view_as(orders)
    rows, columns = (o[:, :2] + o[:, 2:].flip(-1)).unbind(1)
    return rows + columns.unflatten(-1, (size, size)).transpose(-1, -2).flatten(-2)


def selective_scan_inputs(batch, channels, size, dtype, device):
    """Arguments of `selective_scan_2d` for a network of so many channels, A and D as Mamba starts them."""
    inner, length = EXPAND * channels, size * size

    def random(*shape):
        return torch.randn(*shape, dtype=dtype, device=device)

    a_log = torch.arange(1., STATE_DIM + 1, device=device).log().expand(4 * inner, STATE_DIM).contiguous()
    return [random(batch, inner, size, size), random(batch, 4 * inner, length), a_log,
            random(batch, 4, STATE_DIM, length), random(batch, 4, STATE_DIM, length),
            torch.ones(4 * inner, device=device), torch.full((4 * inner,), -4., device=device)]
