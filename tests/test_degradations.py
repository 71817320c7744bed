"""Noise, blur and JPEG as functions of an image: what they add, and what they leave alone."""
import cv2
import numpy as np
import pytest
from degradation_cases import apply
from drawing import draw

from diffrwkvir_arch.data.simple_degradations import KERNELS


@pytest.mark.parametrize('sigma', [15, 25, 50])
def test_noise_is_white_has_the_deviation_asked_for_and_is_not_clipped(sigma):
    image = np.broadcast_to(np.linspace(0, 1, 256, dtype=np.float32)[:, None], (256, 256, 3))
    noise = (apply(image, {'type': 'gaussian_noise', 'sigma': sigma}) - image) * 255
    # 196608 draws: the deviation is known to 0.16 %.
    assert noise.std() == pytest.approx(sigma, rel=0.01) and abs(noise.mean()) < 0.01 * sigma
    assert noise[0].std() == pytest.approx(sigma, rel=0.15) and noise[-1].std() == pytest.approx(sigma, rel=0.15)
    colours = noise.reshape(-1, 3).T
    assert np.abs(np.corrcoef(colours) - np.eye(3)).max() < 0.02
    assert abs(np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]) < 0.02
    assert not np.array_equal((image * 255 + noise).round(), image * 255 + noise)


def test_a_pair_is_a_range_that_every_image_draws_from():
    flat = np.zeros((64, 64, 3), np.float32)
    sigmas = [apply(flat, {'type': 'gaussian_noise', 'sigma': [10, 50]}).std() * 255 for _ in range(60)]
    assert 9 < min(sigmas) < 20 and 40 < max(sigmas) < 52
    picture = draw(32, 32, 0) / np.float32(255)
    assert len({apply(picture, {'type': 'jpeg', 'quality': [10, 13]}).tobytes() for _ in range(60)}) == 4


def test_a_narrow_kernel_changes_nothing():
    image = draw(20, 30, 0).astype(np.float32) / 255
    blurred = apply(image, {'type': 'blur', 'sigma': 0.1})
    assert np.abs(blurred - image).max() < 1e-6


@pytest.mark.parametrize('kernel', KERNELS)
def test_blur_keeps_a_constant_image_up_to_its_borders_and_smooths_others(kernel):
    blur = {'type': 'blur', 'sigma': [1, 3], 'kernel': kernel, 'kernel_size': 15}
    assert np.allclose(apply(np.full((9, 40, 3), 0.3, np.float32), blur), 0.3, atol=1e-5)
    noise = np.random.default_rng(0).random((40, 40, 3), np.float32)
    assert apply(noise, blur).std() < 0.7 * noise.std()


def test_gaussian_blur_is_opencvs():
    image = draw(30, 40, 2).astype(np.float32) / 255
    expected = cv2.GaussianBlur(image, (21, 21), 1.6, borderType=cv2.BORDER_REFLECT_101)
    assert np.abs(apply(image, {'type': 'blur', 'sigma': 1.6}) - expected).max() < 1e-5
