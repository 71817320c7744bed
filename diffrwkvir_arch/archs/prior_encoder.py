"""CPEN, the compact prior extraction network: a small U-Net whose output is one vector, the IPR (Fig. 2 and 3)."""
import math

import torch
import torch.nn.functional as F
from torch import nn

from .counts import check_counts
from .dse_block import DSEBlock
from .initialisation import begin_small
from .restorer import join_mask
from .tokens import pad_to_multiple, refuse_other_gt, standardize


class ResidualBlock(nn.Module):
    """x + conv - ReLU - conv."""

    def __init__(self, dim):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(dim, dim, 3, padding=1), nn.ReLU(), begin_small(nn.Conv2d(dim, dim, 3, padding=1)))

    def forward(self, x):
        return x + self.body(x)


def build_level(dim, block_options):
    """A residual and a DSE block, which no prior guides."""
    options = {**block_options, 'head_dim': math.gcd(block_options['head_dim'], dim)}
    return nn.Sequential(ResidualBlock(dim), DSEBlock(dim, **options))


class PriorEncoder(nn.Module):
    """Image or image pair -> image prior representation (IPR).

    LQ and GT meet on the grid of PixelUnshuffle(4)(GT), PixelUnshuffle(3) at x3: the LQ is unshuffled by what the
    scale leaves of it. The first convolution halves the sides of that grid, for a vector needs no detail of place; then
    come scales, each with half the side of the one above, of a residual and a DSE block in encoder and decoder. The IPR
    is an MLP over the global averages of all decoder scales ("encodes hierarchical features across scales").

    Args:
        scale (int): 1, 2, 3 or 4, GT side over LQ side.
        in_channels (int): Channels of the LQ, with the mask where there is one: for inpainting 4, so that the encoder
            sees (4 + 3) * 16 = 112 channels in stage 1 and 64 in stage 2.
        gt_channels (int): Channels of the GT; 0 builds stage 2's encoder, which sees the LQ alone.
        dim (int): Channels of the uppermost scale; every lower one has twice as many as that above it.
        prior_dim (int): Width of the IPR.
        levels (int): Scales, 1 or more.
        block_options (dict): head_dim, shift, scan, mixer, ffn and compress_ratio of DSEBlock; where head_dim does
            not divide the channels of a scale, its heads have as many as divide both.
    """

    def __init__(self, scale, in_channels, gt_channels, dim, prior_dim, levels, block_options):
        super().__init__()
        check_counts(encoder_dim=dim, encoder_levels=levels)
        self.scale, self.in_channels, self.gt_channels = scale, in_channels, gt_channels
        self.sees_gt = gt_channels > 0
        self.gt_unshuffle = 3 if scale == 3 else 4
        self.lq_unshuffle = self.gt_unshuffle // scale
        channels = in_channels * self.lq_unshuffle**2 + gt_channels * self.gt_unshuffle**2
        self.stem = nn.Conv2d(channels, dim, 3, stride=2, padding=1)
        dims = [dim * 2**level for level in range(levels)]
        steps = list(zip(dims, dims[1:]))
        self.encoders = nn.ModuleList(build_level(fine, block_options) for fine in dims[:-1])
        self.downs = nn.ModuleList(nn.Conv2d(fine, coarse, 3, stride=2, padding=1) for fine, coarse in steps)
        self.bottom = build_level(dims[-1], block_options)
        self.ups = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in steps)
        self.decoders = nn.ModuleList(build_level(fine, block_options) for fine in dims[:-1])
        self.to_prior = nn.Sequential(
            nn.Linear(sum(dims), prior_dim), nn.LeakyReLU(0.1), nn.Linear(prior_dim, prior_dim))

    def forward(self, lq, gt=None, mask=None):
        """LQ and what the encoder was built for -> prior.

        Args:
            lq (Tensor): (B, in_channels, h, w) in [0, 1], one channel less with a mask.
            gt (Tensor | None): (B, gt_channels, scale*h, scale*w).
            mask (Tensor | None): (B, 1, h, w), 1 in the hole, 0 elsewhere.

        Returns:
            Tensor: (B, prior_dim).
        """
        lq = join_mask(lq, mask, self.in_channels)
        if self.sees_gt and gt is None:
            raise ValueError('this prior encoder was built for LQ and GT; GT is missing')
        x = F.pixel_unshuffle(pad_to_multiple(lq, self.lq_unshuffle), self.lq_unshuffle)
        if self.sees_gt:
            refuse_other_gt(gt, lq, self.scale, self.gt_channels)
            gt = F.pixel_unshuffle(pad_to_multiple(gt, self.gt_unshuffle), self.gt_unshuffle)
            x = torch.cat([x, gt], dim=1)
        x = standardize(x).contiguous(memory_format=torch.channels_last)
        x, skips = self.stem(x), []
        for encoder, down in zip(self.encoders, self.downs):
            skips.append(encoder(x))
            x = down(skips[-1])
        x = self.bottom(x)
        averages = [x.mean((2, 3))]
        for skip, up, decoder in reversed(list(zip(skips, self.ups, self.decoders))):
            x = decoder(skip + F.interpolate(up(x), size=skip.shape[-2:], mode='nearest'))
            averages.append(x.mean((2, 3)))
        return self.to_prior(torch.cat(averages, dim=1))
