"""Large images tile by tile: overlapping tiles are blended with weights that fall off towards their borders."""
import math

import torch

from diffrwkvir_arch.errors import InputError

# Sides of tiles are multiples of it where that is no more than was asked for: windows of SwinIR and HAT fit.
GRID = 16
# Bytes of a result from which it is put together in the computer's memory: a GPU has to hold the tiles beside it.
LARGE_RESULT = 2 ** 30


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
        tile (int): Side of a tile at most, in LQ pixels.
        overlap (int): What neighbours share at least, in LQ pixels; 0 <= overlap < tile.

    Returns:
        Tensor: (1, D, scale*H, scale*W) float32, the only one of that size that is made; on the CPU where it takes
        LARGE_RESULT bytes or more, else where `restore` puts its results.
    """
    height, width = lq.shape[-2:]
    blended = None
    for rows, row_weights in shares(height, tile, overlap, scale, lq):
        for columns, column_weights in shares(width, tile, overlap, scale, lq):
            piece = restore(lq[..., rows, columns]).float()
            if blended is None:
                shape = 1, piece.shape[1], scale * height, scale * width
                is_large = math.prod(shape) * piece.itemsize >= LARGE_RESULT
                blended = torch.zeros(shape, device='cpu' if is_large else piece.device)
            place = (..., enlarged(rows, scale), enlarged(columns, scale))
            blended[place] += (piece * row_weights[:, None] * column_weights).to(blended.device)
    return blended


def shares(side, tile, overlap, scale, like):
    """(its slice, weights of its enlarged pixels) for every tile along one side; those of a pixel sum to 1."""
    slices = cuts(side, tile, overlap)
    weight = ramp(scale * (slices[0].stop - slices[0].start), scale * overlap, like)
    total = weight.new_zeros(scale * side)
    for piece in slices:
        total[enlarged(piece, scale)] += weight
    return [(piece, weight / total[enlarged(piece, scale)]) for piece in slices]


def enlarged(piece, scale):
    return slice(scale * piece.start, scale * piece.stop)


def cuts(side, tile, overlap):
    """The slices of tiles along one side: as few as can be, and of one length, as short as these can be.

    Tiles of full length would share more of their pixels than they need to: 20 of 512 cover 2048x1536 pixels, and are
    half as many pixels again as 20 of 432x400.
    """
    count = max(1, math.ceil((side - overlap) / (tile - overlap)))
    length = math.ceil((side + (count - 1) * overlap) / count)
    length = min(side, tile, math.ceil(length / GRID) * GRID)
    begins = [number * (side - length) // max(count - 1, 1) for number in range(count)]
    return [slice(begin, begin + length) for begin in begins]


def tile_count(height, width, tile, overlap):
    """How many tiles an image is cut into; 1 where it stays whole, as it does for tile None."""
    return 1 if tile is None else len(cuts(height, tile, overlap)) * len(cuts(width, tile, overlap))


def ramp(length, fade, like):
    """(length,) weights in (0, 1]: rising over `fade` pixels at the beginning, falling at the end."""
    rising = torch.arange(1, length + 1, dtype=torch.float32, device=like.device)
    return torch.minimum(rising, rising.flip(0)).clamp(max=max(fade, 1)) / max(fade, 1)
