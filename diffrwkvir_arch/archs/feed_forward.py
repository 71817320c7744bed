"""Feed-forward parts, the second half of a DSE block: channel attention (Fig. 7, Eq. 11) and Table 5's alternatives.

All take and return (B, C, H, W). Widths are chosen so that each has about the 4.5 C^2 weights of the channel attention
block with its usual compress_ratio: what an ablation compares is the form, not the size.
"""
import torch.nn.functional as F
from torch import nn

from .counts import check_counts
from .initialisation import begin_small

# Channels over those that channel attention squeezes them to.
SQUEEZE = 16


class ChannelAttention(nn.Module):
    """F * sigmoid(W2 ReLU(W1 GlobalAveragePooling(F))), Eq. 11."""

    def __init__(self, dim):
        super().__init__()
        hidden = max(dim // SQUEEZE, 4)
        self.excite = nn.Sequential(
            nn.Conv2d(dim, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, dim, 1), nn.Sigmoid())
        # Averages are small at first; below zero for all of the few units, no gradient would reach them.
        nn.init.constant_(self.excite[0].bias, 0.1)

    def forward(self, x):
        return x * self.excite(x.mean((2, 3), keepdim=True))


class ChannelAttentionBlock(nn.Sequential):
    """CAB: 3x3 convolution to fewer channels - GELU - 3x3 convolution - channel attention (Fig. 7).

    Args:
        dim (int): Channels C.
        compress_ratio (int): C over the channels between the convolutions, as HAT names it.
    """

    def __init__(self, dim, compress_ratio=4):
        check_counts(compress_ratio=compress_ratio)
        if compress_ratio > dim:
            raise ValueError(f'compress_ratio must be at most dim {dim}, got {compress_ratio}')
        hidden = dim // compress_ratio
        super().__init__(
            nn.Conv2d(dim, hidden, 3, padding=1), nn.GELU(),
            begin_small(nn.Conv2d(hidden, dim, 3, padding=1)), ChannelAttention(dim))


class MLP(nn.Sequential):
    """Two linear maps on every pixel with an activation between (Table 5, 'MLP(ReLU)' and 'MLP(GELU)')."""

    def __init__(self, dim, activation):
        hidden = 9 * dim // 4
        super().__init__(nn.Conv2d(dim, hidden, 1), activation, begin_small(nn.Conv2d(hidden, dim, 1)))


class GatedMLP(nn.Module):
    """W3 (W1 x * GELU(W2 x)) on every pixel (Table 5, 'GatedMLP')."""

    def __init__(self, dim):
        super().__init__()
        hidden = 3 * dim // 2
        self.enter = nn.Conv2d(dim, 2 * hidden, 1)
        self.leave = begin_small(nn.Conv2d(hidden, dim, 1))

    def forward(self, x):
        value, gate = self.enter(x).chunk(2, dim=1)
        return self.leave(value * F.gelu(gate))


# Name in an option file -> what builds the part from (dim, compress_ratio); add your own.
FEED_FORWARDS = {
    'cab': ChannelAttentionBlock,
    'mlp_relu': lambda dim, compress_ratio: MLP(dim, nn.ReLU()),
    'mlp_gelu': lambda dim, compress_ratio: MLP(dim, nn.GELU()),
    'gated_mlp': lambda dim, compress_ratio: GatedMLP(dim),
}


def build_feed_forward(ffn, dim, compress_ratio=4):
    """ffn: a name of FEED_FORWARDS; of ours compress_ratio concerns 'cab' alone."""
    if ffn not in tuple(FEED_FORWARDS):    # a list is no key of a dict
        raise ValueError(f'ffn must be one of {tuple(FEED_FORWARDS)}, got {ffn!r}; --import PACKAGE adds those of your '
                         'own')
    return FEED_FORWARDS[ffn](dim, compress_ratio)
