"""A layer of MambaIRv2: window attention, then the attentive state-space module, each with a feed-forward part.

Guo et al., "MambaIRv2: Attentive State Space Restoration" (2025), Fig. 3. Images are (B, H, W, C); parameters are named
as in the official checkpoints (github.com/csguoh/MambaIR).
"""
import math

import torch
import torch.nn.functional as F
from torch import nn

from .mambair_frame import to_channels_first, to_channels_last
from .mambair_state_space import StateSpace
from .mambairv2_attention import WindowAttention, from_windows, to_windows


def depthwise(dim, size):
    return nn.Conv2d(dim, dim, size, padding=size // 2, groups=dim)


class ConvFFN(nn.Module):
    """Two linear maps; between them GELU(depthwise convolution) is added."""

    def __init__(self, dim, hidden, kernel_size):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.dwconv = nn.ModuleDict({'depthwise_conv': nn.Sequential(depthwise(hidden, kernel_size), nn.GELU())})
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x):
        x = F.gelu(self.fc1(x))
        local = self.dwconv['depthwise_conv'](to_channels_first(x))
        return self.fc2(x + to_channels_last(local))


class GatedMLP(nn.Module):
    """Two linear maps; between them half of the channels, after a depthwise convolution, gates the other half."""

    def __init__(self, dim, hidden, kernel_size):
        super().__init__()
        if hidden % 2:
            raise ValueError(f'mlp_ratio * embed_dim must be even, got {hidden}')
        self.fc1 = nn.Linear(dim, hidden)
        self.sg = nn.ModuleDict({'norm': nn.LayerNorm(hidden // 2), 'conv': depthwise(hidden // 2, kernel_size)})
        self.fc2 = nn.Linear(hidden // 2, dim)

    def forward(self, x):
        x, gate = F.gelu(self.fc1(x)).chunk(2, dim=-1)
        gate = self.sg['conv'](to_channels_first(self.sg['norm'](gate)))
        return self.fc2(x * to_channels_last(gate))


def embedding(rows, columns):
    table = nn.Embedding(rows, columns)
    nn.init.uniform_(table.weight, -1 / rows, 1 / rows)
    return table


class AttentiveStateSpace(nn.Module):
    """ASSM: every pixel chooses a prompt from a pool; one scan, over the pixels sorted by their choice.

    Args:
        dim (int): Channels C.
        hidden (int): Channels inside.
        states (int): States per channel.
        prompts (int): Size of the pool.
        rank (int): The pool is a product of (prompts, rank) and (rank, states).
    """

    def __init__(self, dim, hidden, states, prompts, rank):
        super().__init__()
        self.selectiveScan = StateSpace(hidden, states, rank=math.ceil(hidden / 16), directions=1)
        self.out_norm = nn.LayerNorm(hidden)
        self.out_proj = nn.Linear(hidden, dim)
        self.in_proj = nn.Sequential(nn.Conv2d(dim, hidden, 1))
        self.CPE = nn.Sequential(depthwise(hidden, 3))
        self.embeddingB = embedding(prompts, rank)
        self.route = nn.Sequential(
            nn.Linear(dim, dim // 3), nn.GELU(), nn.Linear(dim // 3, prompts), nn.LogSoftmax(dim=-1))

    def forward(self, x, factor):
        """x (B, H, W, C), factor (rank, states), the layer's share of the pool -> (B, H, W, C)."""
        # The choice is drawn, in inference too, as in the official code: seed torch for the same image twice.
        choice = F.gumbel_softmax(self.route(x.flatten(1, 2)), hard=True)    # (B, L, prompts), one-hot
        prompt = choice @ (self.embeddingB.weight @ factor)
        # Stable: among equals the order of the image, which the CPU's unstable sort would not keep.
        order = choice.detach().argmax(-1).sort(dim=-1, stable=True).indices[..., None]

        inside = self.in_proj(to_channels_first(x))
        inside = to_channels_last(inside * torch.sigmoid(self.CPE(inside))).flatten(1, 2)
        inside = inside.gather(1, order.expand_as(inside))
        # The official code leaves the prompts in the order of the image, and its weights are trained so.
        y = self.selectiveScan.scan(inside[:, :, None], prompt[:, :, None])[:, :, 0]
        y = self.out_proj(self.out_norm(y.to(self.out_norm.weight.dtype)))
        return y.gather(1, order.argsort(1).expand_as(y)).view(x.shape)


class AttentiveLayer(nn.Module):
    """Window attention - feed-forward - ASSM - feed-forward, with four norms and two scaled skip connections.

    Args:
        dim (int): Channels C.
        states, prompts, rank (int): See AttentiveStateSpace.
        heads, window_size (int): See WindowAttention.
        shift (int): How far the windows are shifted.
        mlp_ratio (float): Channels inside the ASSM and the feed-forward parts over C.
        feed_forward (type): ConvFFN or GatedMLP.
        kernel_size (int): Of the feed-forward part's convolution.
    """

    def __init__(self, dim, states, prompts, rank, heads, window_size, shift, mlp_ratio, feed_forward, kernel_size):
        super().__init__()
        self.window_size, self.shift = window_size, shift
        hidden = int(dim * mlp_ratio)
        self.norm1, self.norm2, self.norm3, self.norm4 = (nn.LayerNorm(dim) for _ in range(4))
        self.scale1, self.scale2 = (nn.Parameter(torch.full((dim, ), 1e-4)) for _ in range(2))
        self.wqkv = nn.Linear(dim, 3 * dim)
        self.win_mhsa = WindowAttention(dim, window_size, heads)
        self.assm = AttentiveStateSpace(dim, hidden, states, prompts, rank)
        self.convffn1 = feed_forward(dim, hidden, kernel_size)
        self.convffn2 = feed_forward(dim, hidden, kernel_size)
        self.embeddingA = embedding(rank, states)

    def attend(self, x, position_index, mask):
        height, width = x.shape[1:3]
        qkv = self.wqkv(x)
        if self.shift:
            qkv = qkv.roll((-self.shift, -self.shift), dims=(1, 2))
        windows = self.win_mhsa(to_windows(qkv, self.window_size), position_index, mask if self.shift else None)
        x = from_windows(windows, self.window_size, height, width)
        return x.roll((self.shift, self.shift), dims=(1, 2)) if self.shift else x

    def forward(self, x, position_index, mask):
        """x (B, H, W, C), position_index and mask as in mambairv2_attention.py -> (B, H, W, C)."""
        near = x + self.attend(self.norm1(x), position_index, mask)
        near = near + self.convffn1(self.norm2(near))
        x = x * self.scale1 + near
        far = x + self.assm(self.norm3(x), self.embeddingA.weight)
        far = far + self.convffn2(self.norm4(far))
        return x * self.scale2 + far
