"""A control of the equal-budget study: networks that would have to learn to enlarge get the bicubically enlarged LQ."""
import torch
from basicsr.archs import build_network
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from diffrwkvir_arch.archs.tokens import enlarge, pad_to_multiple

from .methods import RGB_MEAN, SCALE, WINDOW


@ARCH_REGISTRY.register()
class OnBicubic(nn.Module):
    """Bicubic enlargement plus what a network predicts to be missing in it.

    Args:
        network (dict): What network_g would say; a network that adds RGB_MEAN to its output, which is taken off again.
    """

    def __init__(self, network):
        super().__init__()
        self.network = build_network(network)
        self.register_buffer('mean', torch.tensor(RGB_MEAN).view(1, 3, 1, 1), persistent=False)

    def forward(self, lq):
        """lq (B, 3, h, w) in [0, 1] -> (B, 3, SCALE*h, SCALE*w)."""
        height, width = lq.shape[-2:]
        detail = self.network(pad_to_multiple(lq, WINDOW)) - self.mean
        return enlarge(lq, SCALE) + detail[..., :SCALE * height, :SCALE * width]


def with_base_image(methods):
    """The same methods, those of one stage on a base image as NAME+base; those of two have one already."""
    return {name if len(stages) == 2 else f'{name}+base':
            stages if len(stages) == 2 else [{**stages[0], 'network_g': {'type': 'OnBicubic',
                                                                         'network': stages[0]['network_g']}}]
            for name, stages in methods.items()}
