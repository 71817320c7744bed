"""What an option file can do to an image, by name, one after another: noise, blur, JPEG; BasicSR's functions do it.

A degradation is made of its options and called with an image, (H, W, 3) RGB float32; it draws from `random` and
`numpy.random`, as BasicSR's functions do, and returns an image of the same kind.
"""
import contextlib
import hashlib
import random

import cv2
import numpy as np
from basicsr.data.degradations import add_jpg_compression, generate_gaussian_noise, random_mixed_kernels

from diffrwkvir_arch.data.checks import as_range, check_keys, is_number
from diffrwkvir_arch.errors import InputError, did_you_mean

KERNELS = ('iso', 'aniso', 'generalized_iso', 'generalized_aniso', 'plateau_iso', 'plateau_aniso')


class GaussianNoise:
    """Additive white Gaussian noise, its own for each pixel and colour.

    Neither clipped nor rounded, as DnCNN, SwinIR and Restormer are trained and tested: the result leaves [0, 1].

    Args:
        option (str): Names the options in error messages; likewise below.
        sigma (float | list): Standard deviation on the scale of 0 to 255; of a pair, any value between them.
    """

    reach = 0    # how far a pixel's value depends on others

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

    def __init__(self, option, sigma, kernel='iso', kernel_size=21):
        if isinstance(kernel_size, bool) or not isinstance(kernel_size, int) or kernel_size < 3 or kernel_size % 2 == 0:
            raise InputError(f'{option}.kernel_size must be an odd number of at least 3, got {kernel_size!r}')
        self.kernel_size, self.reach = kernel_size, kernel_size // 2
        least, most = as_range(f'{option}.sigma', sigma, 0.1, kernel_size)
        # BasicSR's kernels refuse an empty range.
        self.sigma = least, np.nextafter(most, np.inf)
        self.weights = {kernel: 1} if isinstance(kernel, str) else kernel
        if not isinstance(self.weights, dict) or not self.weights:
            raise InputError(f'{option}.kernel must be a name such as iso, or names with weights such as {{iso: 0.7, '
                             f'aniso: 0.3}}, got {kernel!r}')
        for name, weight in self.weights.items():
            if name not in KERNELS:
                raise InputError(f"{option}.kernel: unknown kernel '{name}'{did_you_mean(name, KERNELS)}; there are "
                                 f'{", ".join(KERNELS)}')
            if not is_number(weight) or not 0 < weight < float('inf'):
                raise InputError(f'{option}.kernel.{name} must be a weight above 0, got {weight!r}')

    def __call__(self, image):
        kernel = random_mixed_kernels(list(self.weights), list(self.weights.values()), self.kernel_size, self.sigma,
                                      self.sigma)
        return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)


class Jpeg:
    """JPEG by OpenCV: the image is clipped, rounded to 8 bits, encoded and decoded.

    Args:
        quality (int | list): 1 to 100; of a pair, any whole number from the one to the other.
    """

    reach = 0    # beyond its block of 8x8

    def __init__(self, option, quality):
        self.quality = as_range(f'{option}.quality', quality, 1, 100, whole=True)

    def __call__(self, image):
        # The encoder's luma and chroma are those of BGR.
        return add_jpg_compression(image[..., ::-1], random.randint(*self.quality))[..., ::-1]


DEGRADATIONS = {'gaussian_noise': GaussianNoise, 'blur': Blur, 'jpeg': Jpeg}


def build_degradations(option, degradation):
    """The degradations of an option file, in their order.

    Args:
        option (str): Names the option in error messages.
        degradation (dict | list of dict): A type of DEGRADATIONS with its options, or several of them.

    Returns:
        list: Each to be called with an image.

    Raises:
        InputError: Names the option, what it is and what it can be.
    """
    if not isinstance(degradation, list):
        return [_build(option, degradation)]
    if not degradation:
        raise InputError(f'{option} is empty; it holds degradations such as {{type: gaussian_noise, sigma: 25}}')
    return [_build(f'{option}[{number}]', section) for number, section in enumerate(degradation)]


def _build(option, section):
    if not isinstance(section, dict) or 'type' not in section:
        raise InputError(f'{option} must be a section such as {{type: gaussian_noise, sigma: 25}}, or a list of such '
                         f'sections, got {section!r}')
    options = {key: value for key, value in section.items() if key != 'type'}
    kind = section['type']
    if kind not in DEGRADATIONS:
        raise InputError(f"{option}.type: unknown degradation '{kind}'{did_you_mean(kind, DEGRADATIONS)}; there are "
                         f'{", ".join(DEGRADATIONS)}')
    check_keys(option, options, DEGRADATIONS[kind])
    return DEGRADATIONS[kind](option, **options)


@contextlib.contextmanager
def drawn_for(stem, seed):
    """Within it `random` and `numpy.random` draw what follows from a file's stem and a seed; after it they go on."""
    states = random.getstate(), np.random.get_state()
    digest = hashlib.sha256(f'{seed} {stem}'.encode()).digest()
    random.seed(digest)
    np.random.seed(np.frombuffer(digest, '<u4'))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
