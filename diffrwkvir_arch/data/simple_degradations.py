"""Degradations of one step: noise, blur, JPEG, bicubic reduction.

A degradation is made of its options and called with an image, (H, W, 3) RGB or (H, W) grey, float32; it draws from
`random` and `numpy.random`, as BasicSR's functions do, and returns an image of the same kind. `reach` is how many
pixels beyond its own a result depends on; one that `shrinks` is also made with the scale, and its result is that much
smaller.
"""
import random

import cv2
import numpy as np
from basicsr.data.degradations import generate_gaussian_noise, random_mixed_kernels

from diffrwkvir_arch.bicubic import imresize
from diffrwkvir_arch.errors import InputError, did_you_mean
from diffrwkvir_arch.values import as_range, is_number, is_whole

KERNELS = ('iso', 'aniso', 'generalized_iso', 'generalized_aniso', 'plateau_iso', 'plateau_aniso')


class GaussianNoise:
    """Additive white Gaussian noise, its own for each pixel and colour.

    Neither clipped nor rounded, as DnCNN, SwinIR and Restormer are trained and tested: the result leaves [0, 1].

    Args:
        option (str): Names the options in error messages; likewise below.
        sigma (float | list): Standard deviation on the scale of 0 to 255; of a pair, any value between them.
    """

    reach, shrinks = 0, False

    def __init__(self, option, sigma):
        self.sigma = as_range(f'{option}.sigma', sigma, 0, 255)

    def __call__(self, image):
        return image + generate_gaussian_noise(image, np.random.uniform(*self.sigma))


class Blur:
    """Convolution with a kernel of BasicSR's random_mixed_kernels; beyond its borders the image is reflected.

    Args:
        sigma (float | list): Standard deviation in pixels, of the anisotropic kernels one for each axis; of a pair, any
            value between them.
        kernel (str | dict): One of KERNELS, or several with their weights, such as {iso: 0.7, aniso: 0.3}. The
            anisotropic ones are turned by any angle.
        kernel_size (int): Side of the kernel in pixels, odd.
    """

    shrinks = False

    def __init__(self, option, sigma, kernel='iso', kernel_size=21):
        if not is_whole(kernel_size, 3) or kernel_size % 2 == 0:
            raise InputError(f'{option}.kernel_size must be an odd number of at least 3, got {kernel_size!r}')
        self.kernel_size, self.reach = kernel_size, kernel_size // 2
        self.sigma = open_range(as_range(f'{option}.sigma', sigma, 0.1, kernel_size))
        self.weights = {kernel: 1} if isinstance(kernel, str) else kernel
        if not isinstance(self.weights, dict) or not self.weights:
            raise InputError(f'{option}.kernel must be a name such as iso, or names with weights such as {{iso: 0.7, '
                             f'aniso: 0.3}}, got {kernel!r}')
        for name, weight in self.weights.items():
            check_kernel(f'{option}.kernel', name)
            if not is_number(weight) or not 0 < weight < float('inf'):
                raise InputError(f'{option}.kernel.{name} must be a weight above 0, got {weight!r}')

    def __call__(self, image):
        kernel = random_mixed_kernels(list(self.weights), list(self.weights.values()), self.kernel_size, self.sigma,
                                      self.sigma)
        return filtered(image, kernel)


class Jpeg:
    """JPEG by OpenCV: the image is clipped, rounded to 8 bits, encoded and decoded.

    Args:
        quality (int | list): 1 to 100; of a pair, any whole number from the one to the other.
    """

    reach, shrinks = 0, False    # beyond its block of 8x8 nothing

    def __init__(self, option, quality):
        self.quality = as_range(f'{option}.quality', quality, 1, 100, whole=True)

    def __call__(self, image):
        return compressed(image, self.quality)


class Bicubic:
    """The LQ of classical super-resolution: MATLAB's imresize of 8-bit images, as `basicsr prepare` writes it."""

    shrinks = True

    def __init__(self, option, scale):
        if scale == 1:
            raise InputError(f'{option}.type: bicubic makes images smaller, and scale is 1')
        # Half the width of the stretched kernel.
        self.scale, self.reach = scale, 2 * scale

    def __call__(self, image):
        return imresize(as_8_bits(image), 1 / self.scale) / np.float32(255)


def check_kernel(option, name):
    """Raises InputError for what is none of KERNELS."""
    if name not in KERNELS:
        raise InputError(f"{option}: unknown kernel '{name}'{did_you_mean(name, KERNELS)}; choose from "
                         f'{", ".join(KERNELS)}')


def open_range(ends):
    """BasicSR's kernels refuse an empty range: the second end is moved by as little as there is."""
    return ends[0], np.nextafter(ends[1], np.inf)


def filtered(image, kernel):
    """The image convolved with a kernel, as BasicSR's filter2D does; beyond its borders it is reflected."""
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)


def compressed(image, qualities):
    """JPEG of a quality between two whole numbers."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, random.randint(*qualities)]
    # The encoder's luma and chroma are those of BGR.
    encoded = cv2.imencode('.jpg', swapped(as_8_bits(image)), quality)[1]
    return swapped(cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)) / np.float32(255)


def swapped(image):
    """RGB as BGR and back; grey stays."""
    return image if image.ndim == 2 else image[..., ::-1]


def as_8_bits(image):
    """Floats in [0, 1] -> uint8, clipped and rounded."""
    return (image.clip(0, 1) * 255).round().astype(np.uint8)
