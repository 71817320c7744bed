"""SRCNN: Fig. 2 of *Image Super-Resolution Using Deep Convolutional Networks* (Dong et al., TPAMI 2016), a peer.

By default 9-5-5, the network of that paper's comparison with others; 9-1-5 is that of its first version (ECCV 2014).
Both work on the luma channel in the paper, on RGB here (as in its Section 4.5).
"""
import torch.nn.functional as F
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from .tokens import enlarge


@ARCH_REGISTRY.register()
class SRCNN(nn.Module):
    """Bicubic enlargement, patch extraction, non-linear mapping, reconstruction.

    Args:
        num_in_ch, num_out_ch (int): Channels of LQ and output.
        upscale (int): 1 or more.
        kernel_sizes (list of int): Sides of the three convolutions, odd: [9, 5, 5] or [9, 1, 5] in the paper.
    """

    def __init__(self, num_in_ch=3, num_out_ch=3, upscale=4, kernel_sizes=(9, 5, 5)):
        super().__init__()
        if len(kernel_sizes) != 3 or not all(size % 2 for size in kernel_sizes):
            raise ValueError(f'kernel_sizes must be three odd numbers, got {kernel_sizes}')
        self.upscale = upscale
        channels = [num_in_ch, 64, 32, num_out_ch]
        # Borders are repeated, as the authors' test code does; their training leaves borders out.
        self.patch_extraction, self.mapping, self.reconstruction = (
            nn.Conv2d(channels[i], channels[i + 1], size, padding=size // 2, padding_mode='replicate')
            for i, size in enumerate(kernel_sizes))
        for convolution in self.children():
            nn.init.normal_(convolution.weight, std=0.001)
            nn.init.zeros_(convolution.bias)

    def forward(self, lq):
        """lq (B, num_in_ch, h, w) in [0, 1] -> (B, num_out_ch, upscale*h, upscale*w)."""
        patches = F.relu(self.patch_extraction(enlarge(lq, self.upscale)))
        return self.reconstruction(F.relu(self.mapping(patches)))
