"""CPEN, DiffIR's compact prior extraction network: reads the prior from images (Xia et al., ICCV 2023).

Module names are those of the official code (github.com/Zj-BinXia/DiffIR, DiffIR-SRGAN), so that its checkpoints load.
"""
import torch
import torch.nn.functional as F
from torch import nn

from .diffir_restorer import MULTIPLE, PRIOR_DIM
from .tokens import pad_to_multiple, refuse_other_shape


def activation():
    """DiffIR's leaky ReLU outside the restorer."""
    return nn.LeakyReLU(0.1)


class ResidualBlock(nn.Module):
    """x + conv - leaky ReLU - conv."""

    def __init__(self, dim):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(dim, dim, 3, padding=1), activation(), nn.Conv2d(dim, dim, 3, padding=1))

    def forward(self, x):
        return x + self.body(x)


class CPEN(nn.Module):
    """Convolutions, the average over all pixels, an MLP.

    GT and LQ meet at LQ resolution: PixelUnshuffle(scale)(GT). Images are padded to a multiple of 8, as the official
    test code does before it calls the network, because the average runs over the padding too.

    Args:
        in_channels (int): Channels of the LQ.
        gt_channels (int): Channels of the GT; 0 builds stage 2's condition encoder, which sees the LQ alone.
        scale (int): GT side over LQ side.
        n_encoder_res (int): Residual blocks.
    """

    def __init__(self, in_channels, gt_channels, scale, n_encoder_res):
        super().__init__()
        self.scale, self.gt_channels, self.sees_gt = scale, gt_channels, gt_channels > 0
        dim = PRIOR_DIM // 4
        self.E = nn.Sequential(
            nn.Conv2d(in_channels + gt_channels * scale**2, dim, 3, padding=1), activation(),
            *(ResidualBlock(dim) for _ in range(n_encoder_res)),
            nn.Conv2d(dim, 2 * dim, 3, padding=1), activation(),
            nn.Conv2d(2 * dim, 2 * dim, 3, padding=1), activation(),
            nn.Conv2d(2 * dim, 4 * dim, 3, padding=1), activation(),
            nn.AdaptiveAvgPool2d(1))
        self.mlp = nn.Sequential(
            nn.Linear(PRIOR_DIM, PRIOR_DIM), activation(), nn.Linear(PRIOR_DIM, PRIOR_DIM), activation())

    def forward(self, lq, gt=None):
        """lq (B, in_channels, h, w), gt (B, gt_channels, scale*h, scale*w), both in [0, 1], or None -> (B, 256)."""
        x = pad_to_multiple(lq, MULTIPLE)
        if self.sees_gt:
            refuse_other_shape(gt, lq, self.gt_channels, self.scale)
            gt = pad_to_multiple(gt, MULTIPLE * self.scale)
            x = torch.cat([x, F.pixel_unshuffle(gt, self.scale)], dim=1)
        return self.mlp(self.E(x).flatten(1))
