"""MATLAB's `imresize(image, scale, 'bicubic')`, antialiased where it shrinks, to the bit for 8 and 16 bits.

MATLAB resizes one side after the other, height first, in double precision. It rounds integer images after each of the
two passes; BasicSR's imresize works in float32 and rounds nothing, so its 8-bit results differ by one grey level here
and there. Kernel: R. Keys, Cubic convolution interpolation for digital image processing (1981), a = -1/2.
"""
import functools
import math

import cv2
import numpy as np

try:
    from state_evolution.numba_kernels import compiled
except Exception:    # numba may be absent, or refuse the NumPy or the Python that it meets
    compiled = None

KERNEL_WIDTH = 4
# Weights come in multiples of this, the last ones 0, so that a sum is loaded and stored once for all of them.
TAPS = 4
DTYPES = ('uint8', 'uint16', 'float32', 'float64')


def imresize(image, scale):
    """Resizes an image.

    Args:
        image (ndarray): (H, W) or (H, W, C), C at most 4, uint8, uint16, float32 or float64.
        scale (float): New side over old side, such as 1 / 4.

    Returns:
        ndarray: (ceil(scale*H), ceil(scale*W)[, C]) of the same dtype. Integers are rounded (half up) and clipped after
        each pass, as MATLAB's are; floats are neither.

    Raises:
        ValueError: Another dtype or shape.
    """
    if image.dtype.name not in DTYPES or image.ndim not in (2, 3) or not image.size or image.shape[2:] > (4, ):
        raise ValueError(f'an image (H, W) or (H, W, C <= 4) of {", ".join(DTYPES)} is needed, got {image.dtype} '
                         f'{image.shape}')
    # cv2.transpose is ten times as fast as a copy of NumPy's swapped axes.
    resized = cv2.transpose(resize_rows(cv2.transpose(resize_rows(image, scale)), scale))
    return resized.reshape(*resized.shape[:2], *image.shape[2:])


def imresize_once_rounded(image, scale):
    """`imresize(im2double(image), scale)` written to a file, as BasicSR's generate_bicubic_img.m does: one rounding."""
    highest = np.iinfo(image.dtype).max
    return np.floor(imresize(image.astype(np.float64), scale).clip(0, highest) + 0.5).astype(image.dtype)


def resize_rows(image, scale):
    """(N, ...) -> (ceil(scale*N), ...)."""
    weights, indices = contributions(len(image), scale)
    rows = np.ascontiguousarray(image).reshape(len(image), -1)
    resized = np.empty((len(weights), rows.shape[1]), image.dtype)
    highest = np.iinfo(image.dtype).max if image.dtype.kind == 'u' else math.inf
    dtype, offset = precision(weights, highest)
    weigh(rows, weights.astype(dtype), indices, tuple(map(dtype, (-offset, highest - offset, offset + 0.5))), resized)
    return resized.reshape(-1, *image.shape[1:])


def precision(weights, highest):
    """How to sum: in float32 where that provably rounds to the same integers as float64.

    Args:
        weights (ndarray): (n, P) float64.
        highest (float): Of the values that are summed, from 0 on; infinity for floats, which are not rounded.

    Returns:
        tuple: A NumPy type, and the number below 0 where sums begin; what they end with is as much too small.
    """
    if highest != 255:
        return np.float64, 0
    gain, loss = weights.clip(0).sum(axis=1).max() * 255, -weights.clip(None, 0).sum(axis=1).min() * 255
    # 1/2, 1/4, 1/8: terms are multiples of 2^-16 and sums from -128 on stay below 2^8: float32's 24 bits hold them all.
    if (weights * 2**16 % 1 == 0).all() and max(gain - 128, loss + 128) < 2**8:
        return np.float32, 128
    # 1/3: exact sums are multiples of 1/81, no nearer to a tie than 1/162. Each weight, product and partial sum, and
    # the 1/2 that rounding adds, errs by at most 2^-24 of the largest sum.
    error = (weights.shape[1] + 3) * 2**-24 * (gain + loss + 1)
    if np.abs(weights * 81 - (weights * 81).round()).max() < 1e-9 and error < 1 / 162:
        return np.float32, 0
    return np.float64, 0


def weigh_by_numpy(rows, weights, indices, limits, resized):
    """resized[i] = sum over p, in this order, of weights[i, p] * rows[indices[i, p]]; see imresize for the rounding.

    limits, in the weights' dtype: where sums begin and the least that they may end with; the most; what rounding adds
    before cutting.
    """
    low, high, lift = limits
    for target, row_weights, taken in zip(resized, weights, indices):
        total = np.full(len(target), low)
        for weight, row in zip(row_weights, taken):
            total += weight * rows[row].astype(weights.dtype)
        target[:] = total if high == math.inf else (total.clip(low, high) + lift).astype(np.int32)


def weigh_compiled(rows, weights, indices, limits, resized):
    """As weigh_by_numpy, to be compiled. Without fast mathematics it sums in the order of p as well, so that ties fall
    as they do in MATLAB.
    """
    width = rows.shape[1]
    low, high, lift = limits
    total = np.empty(width, weights.dtype)
    for i in range(len(weights)):
        total[:] = low
        for p in range(0, weights.shape[1], TAPS):
            w0, w1, w2, w3 = weights[i, p], weights[i, p + 1], weights[i, p + 2], weights[i, p + 3]
            row0, row1, row2, row3 = (rows[indices[i, p]], rows[indices[i, p + 1]], rows[indices[i, p + 2]],
                                      rows[indices[i, p + 3]])
            for j in range(width):
                total[j] = total[j] + w0 * row0[j] + w1 * row1[j] + w2 * row2[j] + w3 * row3[j]
        target = resized[i]
        if high == math.inf:
            for j in range(width):
                target[j] = total[j]
        else:
            for j in range(width):
                target[j] = np.int32(min(max(total[j], low), high) + lift)


weigh = compiled(weigh_compiled) if compiled else weigh_by_numpy


@functools.lru_cache(maxsize=64)
def contributions(length, scale):
    """Which old pixels make up a new one.

    Args:
        length (int): Old pixels along the side.
        scale (float): New over old.

    Returns:
        tuple: Weights, float64 (ceil(scale*length), P), rows sum to 1; indices of old pixels, mirrored at the borders,
        of the same shape. P is a multiple of TAPS.
    """
    stretch = min(scale, 1.)
    width = KERNEL_WIDTH / stretch
    new = np.arange(1, math.ceil(scale * length) + 1, dtype=np.float64)
    # Pixel centres are counted from 1; 0.5 on the old side is 0.5 on the new one.
    centre = (new / scale + 0.5 * (1 - 1 / scale))[:, None]
    pixels = np.floor(centre - width / 2) + np.arange(math.ceil(width) + 2)
    weights = stretch * cubic(stretch * (centre - pixels))
    weights /= weights.sum(axis=1, keepdims=True)
    mirrored = np.concatenate([np.arange(length), np.arange(length)[::-1]])
    indices = mirrored[(pixels.astype(np.int64) - 1) % len(mirrored)]
    used = (weights != 0).any(axis=0)
    spare = [(0, 0), (0, -used.sum() % TAPS)]
    return np.pad(weights[:, used], spare), np.pad(indices[:, used], spare)


def cubic(x):
    """Keys' kernel at distances x, in pixels."""
    x = np.abs(x)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0))
