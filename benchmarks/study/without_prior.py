"""A control of the ablations: the restorer alone, trained in one stage, guided by no prior."""
import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from diffrwkvir_arch.archs.restorer import Restorer


@ARCH_REGISTRY.register()
class WithoutPrior(nn.Module):
    """A restorer whose prior is always zero, so that of its scales and shifts the biases alone remain.

    Args:
        scale, dim, groups, blocks, prior_dim, up_dim: As Restorer.
        head_dim, compress_ratio (int): As DSEBlock.
    """

    def __init__(self, scale, dim, groups, blocks, head_dim, prior_dim, compress_ratio, up_dim):
        super().__init__()
        self.restorer = Restorer(scale, dim=dim, groups=groups, blocks=blocks, prior_dim=prior_dim, up_dim=up_dim,
                                 block_options={'head_dim': head_dim, 'compress_ratio': compress_ratio})
        self.register_buffer('prior', torch.zeros(1, prior_dim), persistent=False)

    def forward(self, lq):
        """lq (B, 3, h, w) in [0, 1] -> (B, 3, scale*h, scale*w)."""
        return self.restorer(lq, self.prior.expand(len(lq), -1))
