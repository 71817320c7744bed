"""Restore-RWKV's spatial mix: bidirectional WKV along the rows, then along the columns (Yang et al. 2024, Re-WKV)."""
import torch
from torch import nn

from .initialisation import begin_small
from .token_shift import SHIFTS
from .tokens import to_image, to_tokens

PASSES = 2    # along rows and columns in turn


def bidirectional_wkv(k, v, decay, bonus):
    """o_t: the mean of all v_i, weighted by exp(k_i - (|t - i| - 1) decay / L), and by exp(k_t + bonus / L) for i = t.

    Two sums, of what is before and of what is after a token, so that the time is linear in L. Vision-RWKV (Duan et al.
    2024, Eq. 3) defines it so.

    Args:
        k, v (Tensor): (B, L, C).
        decay, bonus (Tensor): (C,), of either sign.

    Returns:
        Tensor: (B, L, C) float32, float64 for float64.
    """
    k, v = (x if x.dtype == torch.float64 else x.float() for x in (k, v))
    length = k.shape[1]
    decay, bonus = decay.to(k.dtype) / length, bonus.to(k.dtype) / length
    # Counted from the middle, exponents stay within half of decay.
    place = (torch.arange(length, device=k.device, dtype=k.dtype) - (length - 1) / 2)[:, None] * decay
    weight = torch.exp(k - k.amax(1, keepdim=True))    # a factor that numerator and denominator share
    terms = torch.stack([weight * v, weight])
    rising, falling = terms * place.exp(), terms * (-place).exp()
    before = (rising.cumsum(2) - rising) * (decay - place).exp()
    after = (falling.flip(2).cumsum(2).flip(2) - falling) * (decay + place).exp()
    total, weights = before + after + terms * bonus.exp()
    return total / weights


class BidirectionalWKV(nn.Module):
    """Token shift; keys, values, receptance; WKV in row-major, then in column-major order; receptance gates the result.

    Args:
        dim (int): Channels C.
        shift (str): 'omni' (Restore-RWKV's) | 'quad' | 'uni'.
    """

    def __init__(self, dim, shift='omni'):
        super().__init__()
        self.shift = SHIFTS[shift](dim)
        self.key = nn.Conv2d(dim, dim, 1, bias=False)
        self.value = nn.Conv2d(dim, dim, 1, bias=False)
        self.receptance = nn.Conv2d(dim, dim, 1, bias=False)
        self.project = begin_small(nn.Conv2d(dim, dim, 1, bias=False))
        self.decay = nn.Parameter(torch.randn(PASSES, dim))
        self.bonus = nn.Parameter(torch.randn(PASSES, dim))

    def forward(self, x):
        """(B, C, H, W) -> (B, C, H, W)."""
        dtype = x.dtype
        x = self.shift(x)
        k, v, receptance = self.key(x), self.value(x), torch.sigmoid(self.receptance(x))
        for decay, bonus in zip(self.decay, self.bonus):
            v = to_image(bidirectional_wkv(to_tokens(k), to_tokens(v), decay, bonus), *v.shape[-2:])
            k, v = k.mT, v.mT    # the other order next; after an even number of passes rows again
        return self.project(receptance * v.to(dtype))
