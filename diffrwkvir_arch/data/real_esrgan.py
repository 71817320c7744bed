"""Real-ESRGAN's degradation: blur, resizing, noise and JPEG, twice, then a sinc filter.

Source: Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data" (2021), Fig. 2
and Section 3; options and their values are those of its option files. There batches are degraded on the GPU, all with
the same sizes, which a pool of earlier batches mixes. Here each image is degraded on its own, by the data loader's
processes, with OpenCV's resizing and JPEG; no pool is needed, and every model can be trained on the pairs.
"""
import random

import cv2
import numpy as np
from basicsr.data.degradations import (circular_lowpass_kernel, random_add_gaussian_noise, random_add_poisson_noise,
                                       random_mixed_kernels)

from diffrwkvir_arch.data.simple_degradations import (KERNELS, as_8_bits, check_kernel, compressed, filtered,
                                                      open_range, swapped)
from diffrwkvir_arch.values import as_list, as_probability, as_range, as_range_around_one, as_weights

# Sides in pixels.
KERNEL_SIZES = range(7, 22, 2)
INTERPOLATIONS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)


class Round:
    """One pass of blur, resizing, noise and JPEG.

    Args:
        option (str): Names the options in error messages, of which each ends in `suffix`.
        others: As RealESRGAN's without the suffix.
    """

    def __init__(self, option, suffix, blur_prob, kernel_list, kernel_prob, sinc_prob, blur_sigma, betag_range,
                 betap_range, resize_prob, resize_range, gaussian_noise_prob, noise_range, poisson_scale_range,
                 gray_noise_prob, jpeg_range):

        def named(name):
            return f'{option}.{name}{suffix}'

        self.blur_prob, self.sinc_prob = blur_prob, as_probability(named('sinc_prob'), sinc_prob)
        for kernel in as_list(named('kernel_list'), kernel_list):
            check_kernel(named('kernel_list'), kernel)
        self.kernels = kernel_list, as_weights(named('kernel_prob'), kernel_prob, len(kernel_list))
        self.sigma = open_range(as_range(named('blur_sigma'), blur_sigma, 0.1, 21))
        # BasicSR draws exponents below and above 1 equally often.
        self.betas = [as_range_around_one(named(name), value, 0.1, 10)
                      for name, value in (('betag_range', betag_range), ('betap_range', betap_range))]
        self.resize_prob = as_weights(named('resize_prob'), resize_prob, 3)
        self.resize_range = as_range_around_one(named('resize_range'), resize_range, 0.05, 4)
        self.gaussian_noise_prob, self.gray_noise_prob = (
            as_probability(named(name), value) for name, value in
            (('gaussian_noise_prob', gaussian_noise_prob), ('gray_noise_prob', gray_noise_prob)))
        self.noise_range = as_range(named('noise_range'), noise_range, 0, 255)
        self.poisson_scale_range = as_range(named('poisson_scale_range'), poisson_scale_range, 0, 10)
        self.qualities = as_range(named('jpeg_range'), jpeg_range, 1, 100, whole=True)

    def blurred(self, image):
        if np.random.uniform() >= self.blur_prob:
            return image
        size = random.choice(KERNEL_SIZES)
        if np.random.uniform() < self.sinc_prob:
            # Small kernels cannot hold low frequencies.
            kernel = circular_lowpass_kernel(np.random.uniform(np.pi / (3 if size < 13 else 5), np.pi), size)
        else:
            kernel = random_mixed_kernels(*self.kernels, size, self.sigma, self.sigma, (-np.pi, np.pi), *self.betas)
        return filtered(image, kernel)

    def resized(self, image, height, width):
        """The image in a size that differs from (height, width) by a factor of resize_range."""
        least, most = self.resize_range
        bounds = random.choices([(1, most), (least, 1), (1, 1)], self.resize_prob)[0]
        factor = np.random.uniform(*bounds)
        return resize(image, int(height * factor), int(width * factor))

    def noisy(self, image):
        # Noise of a grey image is one anyway, and BasicSR's grey noise has three channels.
        gray_prob = 0 if image.ndim == 2 else self.gray_noise_prob
        if np.random.uniform() < self.gaussian_noise_prob:
            return random_add_gaussian_noise(image, self.noise_range, gray_prob)
        # Its grey is that of BGR.
        bgr = np.ascontiguousarray(swapped(image))
        return swapped(random_add_poisson_noise(bgr, self.poisson_scale_range, gray_prob))


class RealESRGAN:
    """High-order degradation of an image (H, W, 3) or (H, W), float32 in [0, 1], to H // scale, W // scale and 8 bits.

    Args:
        option (str): Names the options in error messages.
        scale (int): GT side over LQ side; 1 keeps the size.
        kernel_list, kernel_prob: Names of blur kernels and their weights.
        sinc_prob: How often a sinc filter takes their place.
        blur_sigma: Range of a kernel's standard deviation, in pixels.
        betag_range, betap_range: Of the exponents of generalised and plateau kernels.
        resize_prob: Weights of making larger, smaller, neither.
        resize_range: By what factor of the sides at least and at most.
        gaussian_noise_prob: How often noise is Gaussian; else it is Poisson's.
        noise_range: Of its standard deviation on the scale of 0 to 255.
        poisson_scale_range: What Poisson noise is multiplied with.
        gray_noise_prob: How often noise is the same in all colours.
        jpeg_range: Of JPEG's quality, whole numbers.
        *2: The same for the second pass, which blurs in a share second_blur_prob of the images.
        final_sinc_prob: How often a sinc filter follows.
    """

    shrinks = True
    # What its patches of 400 pixels leave around its crops of 256.
    reach = 72

    def __init__(self, option, scale, kernel_list=KERNELS, kernel_prob=(0.45, 0.25, 0.12, 0.03, 0.12, 0.03),
                 sinc_prob=0.1, blur_sigma=(0.2, 3), betag_range=(0.5, 4), betap_range=(1, 2),
                 resize_prob=(0.2, 0.7, 0.1), resize_range=(0.15, 1.5), gaussian_noise_prob=0.5, noise_range=(1, 30),
                 poisson_scale_range=(0.05, 3), gray_noise_prob=0.4, jpeg_range=(30, 95), second_blur_prob=0.8,
                 kernel_list2=KERNELS, kernel_prob2=(0.45, 0.25, 0.12, 0.03, 0.12, 0.03), sinc_prob2=0.1,
                 blur_sigma2=(0.2, 1.5), betag_range2=(0.5, 4), betap_range2=(1, 2), resize_prob2=(0.3, 0.4, 0.3),
                 resize_range2=(0.3, 1.2), gaussian_noise_prob2=0.5, noise_range2=(1, 25),
                 poisson_scale_range2=(0.05, 2.5), gray_noise_prob2=0.4, jpeg_range2=(30, 95), final_sinc_prob=0.8):
        self.scale = scale
        self.first = Round(option, '', 1, kernel_list, kernel_prob, sinc_prob, blur_sigma, betag_range, betap_range,
                           resize_prob, resize_range, gaussian_noise_prob, noise_range, poisson_scale_range,
                           gray_noise_prob, jpeg_range)
        self.second = Round(option, '2', as_probability(f'{option}.second_blur_prob', second_blur_prob), kernel_list2,
                            kernel_prob2, sinc_prob2, blur_sigma2, betag_range2, betap_range2, resize_prob2,
                            resize_range2, gaussian_noise_prob2, noise_range2, poisson_scale_range2, gray_noise_prob2,
                            jpeg_range2)
        self.final_sinc_prob = as_probability(f'{option}.final_sinc_prob', final_sinc_prob)

    def __call__(self, image):
        height, width = image.shape[:2]
        small = height // self.scale, width // self.scale
        out = self.first.resized(self.first.blurred(image), height, width)
        out = compressed(self.first.noisy(out), self.first.qualities)
        out = self.second.noisy(self.second.resized(self.second.blurred(out), *small))
        # Resizing between filter and JPEG would twist lines.
        if np.random.uniform() < 0.5:
            out = compressed(self.final_sinc(resize(out, *small)), self.second.qualities)
        else:
            out = self.final_sinc(resize(compressed(out, self.second.qualities), *small))
        return as_8_bits(out) / np.float32(255)

    def final_sinc(self, image):
        if np.random.uniform() >= self.final_sinc_prob:
            return image
        cutoff = np.random.uniform(np.pi / 3, np.pi)
        return filtered(image, circular_lowpass_kernel(cutoff, random.choice(KERNEL_SIZES)))


def resize(image, height, width):
    """(H, W, ...) -> (height, width, ...), of at least a pixel, in one of three ways."""
    size = max(1, width), max(1, height)
    return cv2.resize(image, size, interpolation=random.choice(INTERPOLATIONS))
