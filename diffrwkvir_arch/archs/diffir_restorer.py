"""DIRformer, DiffIR's restorer: a U-Net of transformer blocks that the prior modulates (Xia et al., ICCV 2023).

Module names are those of the official code (github.com/Zj-BinXia/DiffIR, DiffIR-SRGAN), so that its checkpoints load.
"""
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn

from .tokens import pad_to_multiple

SCALES = (1, 2, 3, 4)
PRIOR_DIM = 256
# Three halvings between the first and the fourth level; the official test code pads the LQ to the same multiple.
MULTIPLE = 8


class BiasFreeLayerNorm(nn.Module):
    """x / sqrt(variance over channels + 1e-5) * weight on channels-last tokens: the mean stays."""

    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return x * torch.rsqrt(x.var(-1, keepdim=True, correction=0) + 1e-5) * self.weight


LAYER_NORMS = {'BiasFree': BiasFreeLayerNorm, 'WithBias': nn.LayerNorm}


class LayerNorm(nn.Module):
    """Layer normalisation of every pixel over its channels."""

    def __init__(self, dim, kind):
        super().__init__()
        self.body = LAYER_NORMS[kind](dim)

    def forward(self, x):
        return self.body(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Modulation(nn.Sequential):
    """x * scale + shift, one of each per channel, both linear in the prior."""

    def __init__(self, dim):
        super().__init__(nn.Linear(PRIOR_DIM, 2 * dim, bias=False))

    def forward(self, x, prior):
        scale, shift = super().forward(prior)[..., None, None].chunk(2, dim=1)
        return torch.addcmul(shift, x, scale)


class Attention(nn.Module):
    """Dynamic multi-head transposed attention: a head's channels attend to each other: linear in the pixels."""

    def __init__(self, dim, heads, bias):
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.kernel = Modulation(dim)
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=bias)
        self.qkv_dwconv = nn.Conv2d(3 * dim, 3 * dim, 3, padding=1, groups=3 * dim, bias=bias)
        self.project_out = nn.Conv2d(dim, dim, 1, bias=bias)

    def forward(self, x, prior):
        qkv = self.qkv_dwconv(self.qkv(self.kernel(x, prior)))
        q, k, v = qkv.flatten(2).unflatten(1, (3, self.heads, -1)).unbind(1)  # (B, heads, C/heads, H*W) each
        weights = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * self.temperature
        mixed = weights.softmax(dim=-1) @ v
        return self.project_out(mixed.view_as(x))


class FeedForward(nn.Module):
    """Dynamic gated feed-forward network: half of the depthwise convolution's channels gates the other half."""

    def __init__(self, dim, expansion, bias):
        super().__init__()
        hidden = int(dim * expansion)
        self.kernel = Modulation(dim)
        self.project_in = nn.Conv2d(dim, 2 * hidden, 1, bias=bias)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=bias)
        self.project_out = nn.Conv2d(hidden, dim, 1, bias=bias)

    def forward(self, x, prior):
        gate, value = self.dwconv(self.project_in(self.kernel(x, prior))).chunk(2, dim=1)
        return self.project_out(F.gelu(gate) * value)


class TransformerBlock(nn.Module):
    """x + attention(norm(x), prior); x + feed-forward(norm(x), prior)."""

    def __init__(self, dim, heads, expansion, bias, norm):
        super().__init__()
        self.norm1 = LayerNorm(dim, norm)
        self.attn = Attention(dim, heads, bias)
        self.norm2 = LayerNorm(dim, norm)
        self.ffn = FeedForward(dim, expansion, bias)

    def forward(self, x, prior):
        x = x + self.attn(self.norm1(x), prior)
        return x + self.ffn(self.norm2(x), prior)


class Level(nn.Sequential):
    """The blocks of one level of the U-Net."""

    def forward(self, x, prior):
        for block in self:
            x = block(x, prior)
        return x


def downsample(dim):
    """(B, C, H, W) -> (B, 2C, H/2, W/2)."""
    return nn.Sequential(OrderedDict(body=nn.Sequential(
        nn.Conv2d(dim, dim // 2, 3, padding=1, bias=False), nn.PixelUnshuffle(2))))


def upsample(dim):
    """(B, C, H, W) -> (B, C/2, 2H, 2W)."""
    return nn.Sequential(OrderedDict(body=nn.Sequential(
        nn.Conv2d(dim, 2 * dim, 3, padding=1, bias=False), nn.PixelShuffle(2))))


def upsampler(dim, scale):
    """One convolution and pixel shuffle per factor 2 or 3; nothing at scale 1."""
    layers = []
    for step in {1: [], 2: [2], 3: [3], 4: [2, 2]}[scale]:
        layers += [nn.Conv2d(dim, dim * step**2, 3, padding=1), nn.PixelShuffle(step)]
    return nn.Sequential(*layers)


class DIRformer(nn.Module):
    """LQ image and prior -> restored image.

    Works at LQ resolution, padded inside to a multiple of 8 and cropped; adds to the LQ enlarged by repeating pixels.

    Args:
        scale (int): 1, 2, 3 or 4.
        inp_channels, out_channels (int): Channels of LQ and output; equal, because the output starts from the LQ.
        dim (int): Channels of the first level; the next three have 2, 4 and 8 times as many.
        num_blocks (list of int): Blocks of the four levels, in the encoder and again in the decoder.
        num_refinement_blocks (int): Blocks after the decoder, with 2 * dim channels.
        heads (list of int): Heads of the four levels; each divides its level's channels.
        ffn_expansion_factor (float): Hidden over plain channels of the feed-forward part.
        bias (bool): Whether the blocks' convolutions have biases.
        LayerNorm_type (str): 'BiasFree' | 'WithBias'.
    """

    def __init__(self, scale, inp_channels, out_channels, dim, num_blocks, num_refinement_blocks, heads,
                 ffn_expansion_factor, bias, LayerNorm_type):
        super().__init__()
        if scale not in SCALES:
            raise ValueError(f'scale must be one of {SCALES}, got {scale}')
        if inp_channels != out_channels:
            raise ValueError(f'inp_channels must be out_channels, got {inp_channels} and {out_channels}')
        if LayerNorm_type not in LAYER_NORMS:
            raise ValueError(f'LayerNorm_type must be one of {tuple(LAYER_NORMS)}, got {LayerNorm_type!r}')
        if len(num_blocks) != 4 or len(heads) != 4:
            raise ValueError(f'num_blocks and heads take four levels each, got {num_blocks} and {heads}')
        widths = [dim, 2 * dim, 4 * dim, 8 * dim]
        if dim % 2 or any(width % number for width, number in zip(widths, heads)):
            raise ValueError(f'dim must be even and heads divide {widths}, got dim {dim} and heads {heads}')
        self.scale = scale

        def level(channels, depth, blocks):
            return Level(*(TransformerBlock(channels, heads[depth], ffn_expansion_factor, bias, LayerNorm_type)
                           for _ in range(blocks)))

        self.patch_embed = nn.Sequential(OrderedDict(
            proj=nn.Conv2d(inp_channels, dim, 3, padding=1, bias=False)))
        self.encoder_level1 = level(dim, 0, num_blocks[0])
        self.down1_2 = downsample(dim)
        self.encoder_level2 = level(2 * dim, 1, num_blocks[1])
        self.down2_3 = downsample(2 * dim)
        self.encoder_level3 = level(4 * dim, 2, num_blocks[2])
        self.down3_4 = downsample(4 * dim)
        self.latent = level(8 * dim, 3, num_blocks[3])
        self.up4_3 = upsample(8 * dim)
        self.reduce_chan_level3 = nn.Conv2d(8 * dim, 4 * dim, 1, bias=bias)
        self.decoder_level3 = level(4 * dim, 2, num_blocks[2])
        self.up3_2 = upsample(4 * dim)
        self.reduce_chan_level2 = nn.Conv2d(4 * dim, 2 * dim, 1, bias=bias)
        self.decoder_level2 = level(2 * dim, 1, num_blocks[1])
        # The first level's decoder keeps both halves of its input, so it is twice as wide as its encoder.
        self.up2_1 = upsample(2 * dim)
        self.decoder_level1 = level(2 * dim, 0, num_blocks[0])
        self.refinement = level(2 * dim, 0, num_refinement_blocks)
        self.tail = nn.Sequential(upsampler(2 * dim, scale), nn.Conv2d(2 * dim, out_channels, 3, padding=1))

    def forward(self, lq, prior):
        """lq (B, C, h, w) in [0, 1], prior (B, 256) -> (B, C, scale*h, scale*w)."""
        height, width = lq.shape[-2:]
        lq = pad_to_multiple(lq, MULTIPLE)
        level1 = self.encoder_level1(self.patch_embed(lq), prior)
        level2 = self.encoder_level2(self.down1_2(level1), prior)
        level3 = self.encoder_level3(self.down2_3(level2), prior)
        x = self.latent(self.down3_4(level3), prior)
        x = self.decoder_level3(self.reduce_chan_level3(torch.cat([self.up4_3(x), level3], dim=1)), prior)
        x = self.decoder_level2(self.reduce_chan_level2(torch.cat([self.up3_2(x), level2], dim=1)), prior)
        x = self.decoder_level1(torch.cat([self.up2_1(x), level1], dim=1), prior)
        restored = self.tail(self.refinement(x, prior)) + F.interpolate(lq, scale_factor=self.scale, mode='nearest')
        return restored[:, :, :height * self.scale, :width * self.scale]
