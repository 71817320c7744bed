"""Parameters and FLOPs of methods, and the rule that they are of about one size."""
import torch
from basicsr.archs import build_network

from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.tools.complexity import complexity, within

LQ_SIDE = 64


def measure(stages):
    """What a method's network costs when it restores, which is the last stage's.

    Args:
        stages (list of dict): See methods.

    Returns:
        dict: parameters; flops of one LQ image of LQ_SIDE x LQ_SIDE pixels, a multiply-add taken as two; uncounted, the
        operators for which no formula is known.
    """
    net = build_network(stages[-1]['network_g']).eval()
    found = complexity(net, (torch.rand(1, 3, LQ_SIDE, LQ_SIDE), ))
    return {'parameters': within(found.parameters), 'flops': within(found.flops), 'uncounted': sorted(found.uncounted)}


def refuse_unequal(costs, larger, tolerance):
    """Raises InputError where a method's parameters are further from the mean than `tolerance` times it.

    Args:
        costs (dict): Method -> what measure returns.
        larger (iterable of str): Methods that are neither checked nor part of the mean.
        tolerance (float): Such as 0.25.
    """
    sizes = {name: cost['parameters'] for name, cost in costs.items() if name not in larger}
    if not sizes:
        return
    mean = sum(sizes.values()) / len(sizes)
    outside = [f'{name} {size / 1e6:.3f} M' for name, size in sizes.items() if abs(size - mean) > tolerance * mean]
    if outside:
        raise InputError(f'{", ".join(outside)}: more than {tolerance:.0%} from the mean of {mean / 1e6:.3f} M '
                         'parameters; change its entry or give --any-size')
