"""Large images tile by tile: overlapping tiles are blended with weights that fall off towards their borders."""
import torch

from diffrwkvir_arch.errors import InputError


def checked_overlap(tile, overlap, names=('--tile', '--overlap')):
    """The overlap of tiles, None where they are not wanted; either argument is None where it is not given.

    Raises:
        InputError: They cannot work; the message calls them by these names.
    """
    if tile is not None and tile < 1:
        raise InputError(f'{names[0]} must be at least 1, got {tile}')
    if overlap is None:
        return min(16, (tile or 0) // 2)
    if not (tile and 0 <= overlap < tile):
        raise InputError(f'{names[1]} must be at least 0 and less than {names[0]}, got {overlap} and {tile}')
    return overlap


def restore_tiled(restore, lq, scale, tile, overlap):
    """Restores tiles of an image and blends them.

    Args:
        restore (callable): (1, C, h, w) -> (1, D, scale*h, scale*w), for any h, w <= tile.
        lq (Tensor): (1, C, H, W).
        scale (int): Output side over LQ side.
        tile (int): Side of a tile, in LQ pixels.
        overlap (int): What neighbours share, in LQ pixels; 0 <= overlap < tile.

    Returns:
        Tensor: (1, D, scale*H, scale*W).
    """
    height, width = lq.shape[-2:]
    total, weights = None, lq.new_zeros(1, 1, scale * height, scale * width, dtype=torch.float32)
    for top in offsets(height, tile, overlap):
        for left in offsets(width, tile, overlap):
            piece = restore(lq[..., top:top + tile, left:left + tile]).float()
            rows, columns = piece.shape[-2:]
            weight = ramp(rows, scale * overlap, lq)[:, None] * ramp(columns, scale * overlap, lq)
            place = (..., slice(scale * top, scale * top + rows), slice(scale * left, scale * left + columns))
            if total is None:
                total = weights.new_zeros(1, piece.shape[1], *weights.shape[-2:])
            total[place] += weight * piece
            weights[place] += weight
    return total / weights


def offsets(side, tile, overlap):
    """Where tiles begin along one side; the last one is flush with the border."""
    return sorted({*range(0, side - tile, tile - overlap), max(side - tile, 0)})


def ramp(length, fade, like):
    """(length,) weights in (0, 1]: rising over `fade` pixels at the beginning, falling at the end."""
    rising = torch.arange(1, length + 1, dtype=torch.float32, device=like.device)
    return torch.minimum(rising, rising.flip(0)).clamp(max=max(fade, 1)) / max(fade, 1)
