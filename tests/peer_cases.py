"""Weights that the official code of a peer can be given as well."""
import numpy as np
import torch


def normal_weights(net):
    """Weights of unit gain in the order of their names, from NumPy's frozen generator."""
    random = np.random.RandomState(0)
    with torch.no_grad():
        for _, p in sorted(net.named_parameters()):
            p.copy_(torch.from_numpy(random.standard_normal(p.shape) / p[0].numel()**0.5))
    return net.double()
