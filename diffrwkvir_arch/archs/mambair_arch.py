"""MambaIR (Guo et al., "MambaIR: A Simple Baseline for Image Restoration with State-Space Model", ECCV 2024).

Parameters are named as in the official checkpoints (github.com/csguoh/MambaIR), which load strictly.
"""
import math

import torch
import torch.nn.functional as F
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn
from torchvision.ops import StochasticDepth

from .mambair_frame import Frame, ResidualGroup, to_channels_first, to_channels_last
from .mambair_state_space import StateSpace


class ChannelAttention(nn.Module):
    """x * sigmoid(W2 ReLU(W1 mean(x))) over a thirtieth of the channels; (B, C, H, W)."""

    def __init__(self, dim):
        super().__init__()
        hidden = max(dim // 30, 1)
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(dim, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, dim, 1), nn.Sigmoid())

    def forward(self, x):
        return x * self.attention(x)


class ChannelAttentionBlock(nn.Module):
    """3x3 convolution to fewer channels - GELU - 3x3 convolution - channel attention; (B, C, H, W)."""

    def __init__(self, dim, compress):
        super().__init__()
        self.cab = nn.Sequential(
            nn.Conv2d(dim, dim // compress, 3, padding=1), nn.GELU(), nn.Conv2d(dim // compress, dim, 3, padding=1),
            ChannelAttention(dim))

    def forward(self, x):
        return self.cab(x)


class VisionStateSpace(StateSpace):
    """VSSM (Fig. 3): a gate beside a depthwise convolution and four scans, along rows and columns there and back.

    Args:
        dim (int): Channels C in and out.
        states (int): States per channel.
        expand (float): Channels inside are int(expand * C).
    """

    def __init__(self, dim, states, expand):
        inner = int(expand * dim)
        super().__init__(inner, states, rank=math.ceil(dim / 16), directions=4)
        self.in_proj = nn.Linear(dim, 2 * inner, bias=False)
        self.conv2d = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, dim, bias=False)

    def forward(self, x):
        """(B, H, W, C) -> (B, H, W, C)."""
        height, width = x.shape[1:3]
        x, gate = self.in_proj(x).chunk(2, dim=-1)
        x = to_channels_last(F.silu(self.conv2d(to_channels_first(x))))
        rows, columns = x.flatten(1, 2), x.transpose(1, 2).flatten(1, 2)
        y = self.scan(torch.stack([rows, columns, rows.flip(1), columns.flip(1)], dim=2))
        there, back = y.split(2, dim=2)
        rows, columns = (there + back.flip(1)).unbind(2)
        y = rows.unflatten(1, (height, width)) + columns.unflatten(1, (width, height)).transpose(1, 2)
        # The scan sums in float32 at least; the norm's weight says what the network computes in.
        y = self.out_norm(y.to(self.out_norm.weight.dtype))
        return self.out_proj(y * F.silu(gate))


class ResidualStateSpaceBlock(nn.Module):
    """RSSB (Eq. 4): s1 x + VSSM(norm(x)); s2 x + channel attention block(norm(x))."""

    def __init__(self, dim, states, expand, drop_path, compress):
        super().__init__()
        self.ln_1 = nn.LayerNorm(dim)
        self.self_attention = VisionStateSpace(dim, states, expand)
        self.drop_path = StochasticDepth(drop_path, 'row')
        self.skip_scale = nn.Parameter(torch.ones(dim))
        self.conv_blk = ChannelAttentionBlock(dim, compress)
        self.ln_2 = nn.LayerNorm(dim)
        self.skip_scale2 = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        """(B, H, W, C) -> (B, H, W, C)."""
        x = x * self.skip_scale + self.drop_path(self.self_attention(self.ln_1(x)))
        return x * self.skip_scale2 + to_channels_last(self.conv_blk(to_channels_first(self.ln_2(x))))


@ARCH_REGISTRY.register()
class MambaIR(Frame):
    """Image (B, in_chans, h, w) in [0, 1] -> (B, in_chans, upscale*h, upscale*w), any h and w.

    Args:
        upscale, in_chans, img_range, upsampler, resi_connection: See Frame.
        embed_dim (int): Channels C.
        depths (list of int): Blocks of each residual group.
        d_state (int): States per channel.
        mlp_ratio (float): Channels inside the scan over C.
        drop_path_rate (float): How often the last block's scan is left out in training; rises linearly to there.
        use_checkpoint (bool): Recompute every block in the backward pass: less memory, more time.
        img_size, window_size: Of no effect; the official option files give them.
    """

    pads_inside = True    # it has no windows to pad to

    def __init__(self, upscale=1, in_chans=3, img_size=64, window_size=8, img_range=1., embed_dim=96,
                 depths=(6, 6, 6, 6), d_state=16, mlp_ratio=2., drop_path_rate=0.1, upsampler='',
                 resi_connection='1conv', use_checkpoint=False):
        # Lightweight SR squeezes more.
        compress = 6 if upsampler == 'pixelshuffledirect' else 3
        rates = iter(torch.linspace(0, drop_path_rate, sum(depths), device='cpu').tolist())
        groups = [
            ResidualGroup(
                embed_dim, 'blocks',
                [ResidualStateSpaceBlock(embed_dim, d_state, mlp_ratio, next(rates), compress) for _ in range(depth)],
                resi_connection, use_checkpoint) for depth in depths]
        super().__init__(groups, upscale, in_chans, img_range, embed_dim, upsampler, resi_connection)

    def forward(self, image):
        return self.restore(image)
