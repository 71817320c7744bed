"""Window attention of MambaIRv2: what a pixel sees near it (Guo et al. 2025, Fig. 3; after Liu et al., "Swin" (2021)).

Images are (B, H, W, C) with sides that are multiples of the window.
"""
import torch
import torch.nn.functional as F
from torch import nn

# Added to the attention between pixels that shifting brought together.
MASKED = -100.


def pad_symmetric(image, multiple):
    """Pads (B, C, H, W) at the bottom and right to multiples, mirrored border included; to and fro if that is far."""
    for dim in (2, 3):
        size = image.shape[dim]
        if size % multiple:
            # As in pad_to_multiple of tokens.py: no remainder of a negative number.
            at = torch.arange((size + multiple - 1) // multiple * multiple, device=image.device) % (2 * size)
            image = image.index_select(dim, torch.where(at < size, at, 2 * size - 1 - at))
    return image


def to_windows(x, size):
    """(B, H, W, C) -> (B * windows, size^2, C)."""
    x = x.unflatten(2, (-1, size)).unflatten(1, (-1, size))
    return x.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def from_windows(windows, size, height, width):
    """(B * windows, size^2, C) -> (B, H, W, C)."""
    x = windows.view(-1, height // size, width // size, size, size, windows.shape[-1])
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def relative_position_index(size):
    """(size^2, size^2): which entry of the bias table belongs to a pair of a window's pixels."""
    at = torch.arange(size ** 2)
    row, column = at // size, at % size
    below, right = row[:, None] - row, column[:, None] - column
    return (below + size - 1) * (2 * size - 1) + right + size - 1


def shift_mask(height, width, size, device):
    """(windows, size^2, size^2): MASKED between pixels that are no neighbours before half a window's shift, else 0."""
    def region(side):
        at = torch.arange(side, device=device)
        return (at >= side - size).int() + (at >= side - size // 2).int()

    regions = to_windows((3 * region(height)[:, None] + region(width))[None, ..., None], size)
    return torch.where(regions == regions.mT, 0., MASKED)


class WindowAttention(nn.Module):
    """Multi-head attention inside windows with a learned bias for every relative position.

    Args:
        dim (int): Channels C.
        window_size (int): Side of a window.
        heads (int): Divides dim.
    """

    def __init__(self, dim, window_size, heads):
        super().__init__()
        if dim % heads:
            raise ValueError(f'num_heads must divide embed_dim, got {heads} and {dim}')
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window_size - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.proj = nn.Linear(dim, dim)

    def forward(self, qkv, position_index, mask=None):
        """qkv (B * windows, size^2, 3C), position_index as above, mask (windows, ...) -> (B * windows, size^2, C)."""
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[position_index].permute(2, 0, 1)[None]
        if mask is not None:
            bias = (bias + mask[:, None]).repeat(len(q) // len(mask), 1, 1, 1)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        return self.proj(x.transpose(1, 2).flatten(2))
