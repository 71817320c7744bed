"""Dynamic state evolution block: spatial mixer and feed-forward part, both guided by the prior (Fig. 8, Eq. 9-11)."""
import torch
from torch import nn

from .feed_forward import build_feed_forward
from .mixers import build_mixer


class PriorNorm(nn.Module):
    """LayerNorm over channels; the prior then gives one scale and one shift per channel.

    Without a prior (prior_dim None) scale and shift are plain parameters.
    """

    def __init__(self, dim, prior_dim=None):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.to_scale_shift = None if prior_dim is None else nn.Linear(prior_dim, 2 * dim)

    def forward(self, x, prior=None):
        """x (B, C, H, W), prior (B, prior_dim) or None -> (B, C, H, W)."""
        x = self.norm(x.permute(0, 2, 3, 1))
        if self.to_scale_shift is not None:
            scale, shift = self.to_scale_shift(prior)[:, None, None].chunk(2, dim=-1)
            x = torch.addcmul(shift, x, 1 + scale)
        return x.permute(0, 3, 1, 2)


class DSEBlock(nn.Module):
    """x + SEB(norm(x), prior); x + CAB(norm(x), prior) (Fig. 8).

    Args:
        dim (int): Channels C.
        prior_dim (int | None): Width of the prior; None builds a block that no prior guides.
        head_dim, shift, scan: See mixers.StateEvolutionBlock.
        mixer (str): A name of MIXERS.
        ffn (str): A name of FEED_FORWARDS; compress_ratio (int): see ChannelAttentionBlock.
    """

    def __init__(self, dim, prior_dim=None, head_dim=16, shift='omni', scan='omni', mixer='ttt', ffn='cab',
                 compress_ratio=4):
        super().__init__()
        self.norm1 = PriorNorm(dim, prior_dim)
        self.mixer = build_mixer(mixer, dim, head_dim, shift, scan)
        self.norm2 = PriorNorm(dim, prior_dim)
        self.feed_forward = build_feed_forward(ffn, dim, compress_ratio)

    def forward(self, x, prior=None):
        x = x + self.mixer(self.norm1(x, prior))
        return x + self.feed_forward(self.norm2(x, prior))
