"""The restorer of both stages: residual groups of DSE blocks guided by the prior, and an upsampler (Fig. 2 and 3)."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from .counts import check_counts
from .dse_block import DSEBlock
from .hole_filling import fill_holes, keep_known
from .initialisation import begin_small
from .tokens import enlarge, pad_to_multiple, standardize

SCALES = (1, 2, 3, 4)
UPSAMPLERS = ('stepwise', 'direct')


def join_mask(lq, mask, in_channels):
    """LQ (B, C, h, w) and mask (B, 1, h, w), 1 in the hole, or None -> (B, in_channels, h, w), its holes filled."""
    if lq.dim() != 4 or not lq.is_floating_point() or not lq.numel():
        raise ValueError(f'LQ must be (B, C, h, w) of floats in [0, 1], got {tuple(lq.shape)} of {lq.dtype}')
    joined = lq
    if mask is not None:
        expected = (len(lq), 1, *lq.shape[-2:])
        if tuple(mask.shape) != expected:
            raise ValueError(f'the mask must be {expected} for LQ {tuple(lq.shape)}, got {tuple(mask.shape)}')
        joined = torch.cat([fill_holes(lq, mask), mask.to(lq.dtype)], dim=1)
    if joined.shape[1] != in_channels:
        hint = '; it inpaints, give it a mask' if mask is None and joined.shape[1] == in_channels - 1 else ''
        raise ValueError(f'this network was built for in_channels {in_channels}, got LQ with {lq.shape[1]} channels '
                         f'{"without a" if mask is None else "and a"} mask{hint}')
    return joined


class ResidualGroup(nn.Module):
    """DSE blocks and a 3x3 convolution around one skip connection."""

    def __init__(self, dim, blocks, prior_dim, block_options, use_checkpoint):
        super().__init__()
        self.use_checkpoint = use_checkpoint
        self.blocks = nn.ModuleList(DSEBlock(dim, prior_dim, **block_options) for _ in range(blocks))
        self.conv = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x, prior):
        out = x
        for block in self.blocks:
            if self.use_checkpoint and self.training:
                out = checkpoint(block, out, prior, use_reentrant=False)
            else:
                out = block(out, prior)
        return x + self.conv(out)


def build_upsampler(kind, dim, up_dim, out_channels, factor):
    """Features (B, dim, h, w) -> image (B, out_channels, factor*h, factor*w).

    kind: 'stepwise', one pixel shuffle per factor 2 or 3 with convolutions of up_dim channels and LeakyReLUs between;
    'direct', one convolution and one pixel shuffle, as SwinIR's lightweight model does. The last shuffle of both makes
    the image. EDSR's upsampler, linear and with a convolution in the image's own size, took half of a small restorer's
    time on a CPU.
    """
    if kind not in UPSAMPLERS:
        raise ValueError(f'upsampler must be one of {UPSAMPLERS}, got {kind!r}')
    layers, channels = [], dim
    if kind == 'stepwise':
        *steps, factor = {2: [2], 3: [3], 4: [2, 2]}[factor]
        for step in steps:
            layers += [nn.Conv2d(channels, up_dim * step**2, 3, padding=1), nn.PixelShuffle(step), nn.LeakyReLU(0.1)]
            channels = up_dim
        layers += [nn.Conv2d(channels, up_dim, 3, padding=1), nn.LeakyReLU(0.1)]
        channels = up_dim
    # Training starts near the base image.
    last = begin_small(nn.Conv2d(channels, out_channels * factor**2, 3, padding=1))
    return nn.Sequential(*layers, last, nn.PixelShuffle(factor))


class Restorer(nn.Module):
    """LQ image and prior -> restored image.

    Works at LQ resolution; at scale 1 on PixelUnshuffle(4) features. The network adds to a base image, the bicubically
    enlarged LQ; at scale 1 the LQ itself, its holes filled by what surrounds them (hole_filling.py). Sizes that do not
    fit are padded inside and cropped. A network that inpaints has one channel more coming in than going out, for the
    mask; known pixels come back as they were.

    Args:
        scale (int): 1, 2, 3 or 4.
        in_channels, out_channels (int): Channels of LQ, with the mask where there is one, and of the output; the first
            out_channels of the LQ are its image.
        dim (int): Channels C of the blocks.
        groups, blocks (int): Residual groups, and DSE blocks in each.
        prior_dim (int): Width of the prior.
        upsampler (str), up_dim (int): See build_upsampler.
        use_checkpoint (bool): Recompute every block in the backward pass: less memory, about a third more time.
        block_options (dict): head_dim, shift, scan, mixer, ffn and compress_ratio of DSEBlock.
    """

    def __init__(self, scale, in_channels=3, out_channels=3, dim=128, groups=4, blocks=6, prior_dim=256,
                 upsampler='stepwise', up_dim=64, use_checkpoint=False, block_options=None):
        super().__init__()
        check_counts(scale=scale, in_channels=in_channels, out_channels=out_channels, dim=dim, groups=groups,
                     blocks=blocks, prior_dim=prior_dim, up_dim=up_dim)
        if scale not in SCALES:
            raise ValueError(f'scale must be one of {SCALES}, got {scale}')
        self.inpaints = in_channels == out_channels + 1
        if self.inpaints and scale != 1:
            raise ValueError(f'in_channels: {in_channels} beside out_channels: {out_channels} inpaints, which needs '
                             f'scale 1, got {scale}')
        self.scale, self.in_channels, self.out_channels = scale, in_channels, out_channels
        self.prior_dim = prior_dim
        self.unshuffle = 4 if scale == 1 else 1
        self.stem = nn.Conv2d(in_channels * self.unshuffle**2, dim, 3, padding=1)
        self.groups = nn.ModuleList(
            ResidualGroup(dim, blocks, prior_dim, block_options or {}, use_checkpoint) for _ in range(groups))
        self.conv = nn.Conv2d(dim, dim, 3, padding=1)
        self.upsample = build_upsampler(upsampler, dim, up_dim, out_channels, scale * self.unshuffle)

    def forward(self, lq, prior, mask=None, composite=True):
        """LQ, prior and for inpainting a mask -> image.

        Args:
            lq (Tensor): (B, in_channels, h, w) in [0, 1], one channel less with a mask.
            prior (Tensor): (B, prior_dim), or (1, prior_dim) for all images.
            mask (Tensor | None): (B, 1, h, w), 1 in the hole, 0 elsewhere.
            composite (bool): Whether known pixels are those of the LQ; False returns the network's own everywhere,
                which a loss on known pixels needs.

        Returns:
            Tensor: (B, out_channels, scale*h, scale*w).
        """
        if mask is None and self.inpaints and lq.shape[1] == self.in_channels:
            raise ValueError(f'this network inpaints: give it the image, {self.out_channels} channels, and the mask '
                             'apart, not joined')
        height, width = lq.shape[-2:]
        seen = join_mask(lq, mask, self.in_channels)
        if tuple(prior.shape) not in ((len(lq), self.prior_dim), (1, self.prior_dim)):
            raise ValueError(f'the prior must be {(len(lq), self.prior_dim)} for LQ {tuple(lq.shape)}, or one for all, '
                             f'got {tuple(prior.shape)}')
        x = F.pixel_unshuffle(pad_to_multiple(standardize(seen), self.unshuffle), self.unshuffle)
        shallow = self.stem(x.contiguous(memory_format=torch.channels_last))
        deep = shallow
        for group in self.groups:
            deep = group(deep, prior)
        detail = self.upsample(shallow + self.conv(deep))[:, :, :height * self.scale, :width * self.scale]
        restored = enlarge(seen[:, :self.out_channels], self.scale) + detail
        return keep_known(restored, lq, mask) if composite else restored
