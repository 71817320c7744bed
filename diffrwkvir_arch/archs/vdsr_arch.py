"""VDSR: *Accurate Image Super-Resolution Using Very Deep Convolutional Networks* (Kim et al., CVPR 2016), a peer.

The network of its Fig. 2 on RGB; the paper's works on the luma channel.
"""
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from .tokens import enlarge


@ARCH_REGISTRY.register()
class VDSR(nn.Module):
    """Bicubic enlargement plus what 3x3 convolutions predict to be missing in it. The defaults are the paper's network.

    Args:
        num_in_ch, num_out_ch (int): Channels of LQ and output, equal.
        num_feat (int): Channels between convolutions.
        num_conv (int): Convolutions, first and last included.
        upscale (int): 1 or more.
    """

    def __init__(self, num_in_ch=3, num_out_ch=3, num_feat=64, num_conv=20, upscale=4):
        super().__init__()
        if num_in_ch != num_out_ch:
            raise ValueError(f'num_out_ch must be num_in_ch, {num_in_ch}, because the output adds to the input, '
                             f'got {num_out_ch}')
        if num_conv < 2:
            raise ValueError(f'num_conv must be at least 2, got {num_conv}')
        self.upscale = upscale
        layers = [nn.Conv2d(num_in_ch, num_feat, 3, padding=1)]
        for _ in range(num_conv - 2):
            layers += [nn.ReLU(inplace=True), nn.Conv2d(num_feat, num_feat, 3, padding=1)]
        layers += [nn.ReLU(inplace=True), nn.Conv2d(num_feat, num_out_ch, 3, padding=1)]
        for convolution in layers[::2]:
            nn.init.kaiming_normal_(convolution.weight, nonlinearity='relu')
            nn.init.zeros_(convolution.bias)
        self.body = nn.Sequential(*layers)

    def forward(self, lq):
        """lq (B, num_in_ch, h, w) in [0, 1] -> (B, num_out_ch, upscale*h, upscale*w)."""
        image = enlarge(lq, self.upscale)
        return image + self.body(image)
