"""Shapes of holes for inpainting: LaMa's strokes and boxes (Suvorov et al. 2021), a box, the centre, the border.

Every function takes the size (H, W) of the image, a numpy Generator and the options of its shape, and returns a mask:
(H, W) float32, 1 in the hole, 0 where the image is known.
"""
import math

import cv2
import numpy as np

from diffrwkvir_arch.errors import InputError

# Of LaMa's strokes: straight pieces of one stroke, radians between their directions, the least length and width.
PIECES, DIRECTIONS, LEAST_LENGTH, LEAST_WIDTH = 5, 4, 10, 5


def strokes(shape, rng, count, length, width):
    """Bent strokes of a brush, as LaMa draws them.

    Args:
        count (tuple of int): Least and most strokes. LaMa's generator draws up to one more than its option files say;
            so does this.
        length, width (int): A straight piece is 10 to 9 + length pixels long, 5 to 4 + width wide.
    """
    mask = np.zeros(shape, np.float32)
    for number in range(rng.integers(count[0], count[1] + 1, endpoint=True)):
        x, y = int(rng.integers(shape[1])), int(rng.integers(shape[0]))
        for _ in range(1 + rng.integers(PIECES)):
            angle = 0.01 + rng.integers(DIRECTIONS)
            if number % 2 == 0:
                angle = 2 * math.pi - angle
            reach = LEAST_LENGTH + int(rng.integers(length))
            thickness = LEAST_WIDTH + int(rng.integers(width))
            end_x = min(max(int(x + reach * math.sin(angle)), 0), shape[1])
            end_y = min(max(int(y + reach * math.cos(angle)), 0), shape[0])
            cv2.line(mask, (x, y), (end_x, end_y), 1.0, thickness)
            x, y = end_x, end_y
    return mask


def boxes(shape, rng, count, side, margin):
    """Upright rectangles that may overlap, as LaMa draws them.

    Args:
        count (tuple of int): Least and most rectangles.
        side (tuple of int): Least and greatest side in pixels; no more than the image has inside its margin.
        margin (int): Pixels along the border of the image that stay known.
    """
    room = min(shape) - 2 * margin
    if room < 1:
        raise InputError(f'an image of {shape[1]}x{shape[0]} pixels has no room for boxes {margin} pixels from its '
                         'border')
    greatest = min(side[1], room)
    mask = np.zeros(shape, np.float32)
    for _ in range(rng.integers(*count, endpoint=True)):
        width, height = rng.integers(min(side[0], greatest), greatest, size=2, endpoint=True)
        left = rng.integers(margin, shape[1] - margin - width, endpoint=True)
        top = rng.integers(margin, shape[0] - margin - height, endpoint=True)
        mask[top:top + height, left:left + width] = 1
    return mask


def box(shape, rng, size):
    """One box of `size` times the image's sides, anywhere."""
    height, width = sides(shape, size)
    return filled(shape, rng.integers(shape[0] - height, endpoint=True), rng.integers(shape[1] - width, endpoint=True),
                  height, width)


def centre(shape, rng, size):
    """One box of `size` times the image's sides, in the middle; nothing is drawn at random."""
    height, width = sides(shape, size)
    return filled(shape, (shape[0] - height) // 2, (shape[1] - width) // 2, height, width)


def border(shape, rng, size):
    """Outpainting: a frame, `size` times the image's sides wide on each of its four sides."""
    return 1 - centre(shape, rng, 1 - 2 * size)


def sides(shape, size):
    """`size` times either side, at least a pixel."""
    return [max(1, round(side * size)) for side in shape]


def filled(shape, top, left, height, width):
    """A mask with one box."""
    mask = np.zeros(shape, np.float32)
    mask[top:top + height, left:left + width] = 1
    return mask
