"""Spatial mixers, the first half of a DSE block: state evolution (Fig. 4), the two that Table 5 compares it with, and
Restore-RWKV's.

All take and return (B, C, H, W). What is linear in every pixel is a 1x1 convolution: on CPUs oneDNN's convolutions take
half the time of nn.Linear's matrix products or less, on channels-last images both see the same memory.

One of your own is a line in your package, and `mixer: mine` in the option file:
    MIXERS['mine'] = lambda dim, head_dim, shift, scan: MyMixer(dim)
SHIFTS of token_shift.py and FEED_FORWARDS of feed_forward.py are extended likewise.
"""
import torch
import torch.nn.functional as F
from state_evolution import DIRECTIONS, state_evolution_2d
from state_evolution.checks import MAX_DIM
from torch import nn

from .bidirectional_wkv import BidirectionalWKV
from .counts import check_counts
from .initialisation import begin_small
from .token_shift import SHIFTS
from .tokens import to_image, to_tokens

SCANS = ('omni', 'split', '1d')


class LoRA(nn.Module):
    """A tanh(x B), Eq. 10; A starts at zero, so that training starts from the bias it is added to."""

    def __init__(self, dim, out_dim, rank):
        super().__init__()
        self.B = nn.Conv2d(dim, rank, 1, bias=False)
        self.A = nn.Conv2d(rank, out_dim, 1, bias=False)
        nn.init.zeros_(self.A.weight)

    def forward(self, x):
        return self.A(torch.tanh(self.B(x)))


class StateEvolutionBlock(nn.Module):
    """SEB: token shift, five interpolated streams q, k, v, w, e, the 2D scan, norm and projection (Fig. 4, Eq. 9-10).

    Args:
        dim (int): Channels C.
        head_dim (int): Channels of a head; divides dim, at most 128.
        shift (str): 'omni' | 'quad' | 'uni'.
        scan (str): 'omni', every head in all four directions; 'split', heads dealt out to the directions in turn, a
            quarter of the work; '1d', one scan in row-major order.
        rank (int): Rank of the LoRA behind decay and step size.
    """

    def __init__(self, dim, head_dim=16, shift='omni', scan='omni', rank=8):
        super().__init__()
        if head_dim > MAX_DIM:
            raise ValueError(f'head_dim must be at most {MAX_DIM} with mixer ttt, got {head_dim}')
        self.heads, self.head_dim, self.scan_order = dim // head_dim, head_dim, scan
        self.shift = SHIFTS[shift](dim)
        self.mu = nn.Parameter(torch.full((5, dim, 1, 1), 0.5))  # LeRP weights of q, k, v, w, e
        self.query = nn.Conv2d(dim, dim, 1, bias=False)
        self.key = nn.Conv2d(dim, dim, 1, bias=False)
        self.value = nn.Conv2d(dim, dim, 1, bias=False)
        # A head forgets between 1 % and 50 % of its state a token at the start: some look far, some near.
        forget = torch.logspace(-2, -0.3, self.heads)
        self.decay_bias = nn.Parameter(torch.log(torch.expm1(-torch.log1p(-forget))))
        self.step_bias = nn.Parameter(torch.zeros(self.heads))
        self.decay_lora = LoRA(dim, self.heads, rank)
        self.step_lora = LoRA(dim, self.heads, rank)
        self.norm = nn.LayerNorm(dim)
        self.project = begin_small(nn.Conv2d(dim, dim, 1))

    def streams(self, x):
        """(B, C, H, W) -> q, k, v (B, L, heads, head_dim), log_decay <= 0 and step size in [0, 1] (B, L, heads)."""
        difference = self.shift(x) - x
        # Eq. 10: LeRP(x, s) = x + (s - x) * mu, with a mu of its own for every stream.
        q, k, v, w, e = (torch.addcmul(x, difference, mu) for mu in self.mu)
        q, k, v = (to_tokens(linear(stream)).unflatten(-1, (self.heads, self.head_dim))
                   for linear, stream in ((self.query, q), (self.key, k), (self.value, v)))
        log_decay = -F.softplus(self.decay_bias + to_tokens(self.decay_lora(w)))
        # Eq. 5 diverges for a step above 1: softplus(.) is mapped to softplus / (1 + softplus).
        rate = F.softplus(self.step_bias + to_tokens(self.step_lora(e)))
        # Autocast takes norms in float32; kernels for 16 bits want q, k and v in these.
        return q, F.normalize(k, dim=-1).to(k.dtype), v, log_decay, rate / (1 + rate)

    def scan(self, streams, height, width):
        """Runs the state over the image; -> (B, L, heads, head_dim)."""
        if self.scan_order == 'omni':
            return state_evolution_2d(*streams, height, width)
        if self.scan_order == '1d':
            return state_evolution_2d(*streams, height, width, directions=DIRECTIONS[:1])
        out = torch.empty_like(streams[2])
        shares = [slice(first, None, len(DIRECTIONS)) for first in range(min(self.heads, len(DIRECTIONS)))]
        for direction, share in zip(DIRECTIONS, shares):
            out[:, :, share] = state_evolution_2d(
                *(stream[:, :, share] for stream in streams), height, width, directions=(direction, ))
        return out

    def forward(self, x):
        height, width = x.shape[-2:]
        evolved = self.scan(self.streams(x), height, width)
        return self.project(to_image(self.norm(evolved.flatten(2)), height, width))


class Attention(nn.Module):
    """Softmax attention over all tokens, quadratic in their number (Table 5, 'Naive Attention')."""

    def __init__(self, dim, head_dim=16):
        super().__init__()
        self.heads = dim // head_dim
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=False)
        self.project = begin_small(nn.Conv2d(dim, dim, 1))

    def forward(self, x):
        height, width = x.shape[-2:]
        q, k, v = to_tokens(self.qkv(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.project(to_image(mixed, height, width))


class ConvMixer(nn.Sequential):
    """The two 3x3 convolutions of a residual block (Table 5, 'ResNet')."""

    def __init__(self, dim):
        super().__init__(nn.Conv2d(dim, dim, 3, padding=1), nn.ReLU(), begin_small(nn.Conv2d(dim, dim, 3, padding=1)))


# Name in an option file -> what builds the mixer from (dim, head_dim, shift, scan); add your own.
MIXERS = {
    'ttt': StateEvolutionBlock,
    'attention': lambda dim, head_dim, shift, scan: Attention(dim, head_dim),
    'resnet': lambda dim, head_dim, shift, scan: ConvMixer(dim),
    'rwkv': lambda dim, head_dim, shift, scan: BidirectionalWKV(dim, shift),
}


def build_mixer(mixer, dim, head_dim, shift, scan):
    """mixer: a name of MIXERS; of ours only 'ttt' (state evolution) scans, only it and 'rwkv' shift.

    Raises:
        ValueError: An argument cannot be used, whether this mixer does or not.
    """
    check_counts(head_dim=head_dim)
    if dim % head_dim:
        raise ValueError(f'head_dim must divide dim, got head_dim {head_dim} and dim {dim}')
    for name, value, known in (('mixer', mixer, MIXERS), ('shift', shift, SHIFTS), ('scan', scan, SCANS)):
        if value not in tuple(known):    # a list is no key of a dict
            more = '' if known is SCANS else '; --import PACKAGE adds those of your own'
            raise ValueError(f'{name} must be one of {tuple(known)}, got {value!r}{more}')
    return MIXERS[mixer](dim, head_dim, shift, scan)
