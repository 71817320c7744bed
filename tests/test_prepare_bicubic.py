"""MATLAB's imresize: what it is by definition, pinned results, and that speed costs no bit."""
import hashlib
import math
import subprocess
import sys

import diffrwkvir_arch  # noqa: F401
import numpy as np
import pytest
from basicsr.utils.matlab_functions import imresize as basicsr_imresize
from diffrwkvir_arch import bicubic
from diffrwkvir_arch.bicubic import imresize, imresize_once_rounded
from skimage import data

# Of the raw bytes of astronaut's LR, RGB, 504x504 from its top left. The code that made them also makes, without one
# different pixel, x2, x3 and x4 LRs of Set5 and Set14 that are described as MATLAB's imresize of uint8.
PINNED = {2: 'd8e0a30af38a0773', 3: 'b330cb3d82526ff1', 4: '2b5f4cd2ae5ecb31', 8: '52d27d5b71b4391d'}


def by_definition(image, scale):
    """Height, then width, as weighted sums in float64; rounded half up and clipped after each, for integers."""
    values = image.astype(np.float64)
    for axis in (0, 1):
        values = np.moveaxis(values, axis, 0)
        weights, indices = bicubic.contributions(len(values), scale)
        total = np.zeros((len(weights), *values.shape[1:]))
        for p in range(weights.shape[1]):
            total += weights[:, p].reshape(-1, *[1] * (values.ndim - 1)) * values[indices[:, p]]
        if image.dtype.kind == 'u':
            total = np.floor(total.clip(0, np.iinfo(image.dtype).max) + 0.5)
        values = np.moveaxis(total, 0, axis)
    return values.astype(image.dtype)


def noise(*shape, dtype=np.uint8):
    """Values of the whole range, with flat parts and extremes, where ties and clipping happen."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)
    image[:shape[0] // 3] = np.where(image[:shape[0] // 3] > np.iinfo(dtype).max // 2, np.iinfo(dtype).max, 0)
    return image


@pytest.mark.parametrize('scale', PINNED)
def test_lrs_of_a_photograph_are_the_pinned_ones(scale):
    lr = imresize(np.ascontiguousarray(data.astronaut()[:504, :504]), 1 / scale)
    assert lr.shape == (504 // scale, 504 // scale, 3)
    assert hashlib.sha256(lr.tobytes()).hexdigest()[:16] == PINNED[scale]


@pytest.mark.parametrize('scale', [1 / 2, 1 / 3, 1 / 4, 1 / 5, 1 / 8, 2, 3, 4])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('by', ['numba', 'numpy'])
def test_the_sums_are_the_definition_to_the_bit(monkeypatch, scale, dtype, by):
    if by == 'numpy':
        monkeypatch.setattr(bicubic, 'weigh', bicubic.weigh_by_numpy)
    image = noise(240, 312, 3, dtype=dtype)
    assert np.array_equal(imresize(image, scale), by_definition(image, scale))


def test_floats_are_the_same_with_and_without_numba(monkeypatch):
    image = noise(24, 30, 3) / 255
    compiled = [imresize(image.astype(dtype), 1 / 3) for dtype in (np.float32, np.float64)]
    monkeypatch.setattr(bicubic, 'weigh', bicubic.weigh_by_numpy)
    for expected in compiled:
        assert np.array_equal(imresize(image.astype(expected.dtype), 1 / 3), expected)


def test_without_numba_the_plugin_works_and_says_so():
    code = ('import sys; sys.modules["numba"] = None; import numpy, diffrwkvir_arch.cli; '
            'from diffrwkvir_arch.bicubic import imresize; print(imresize(numpy.ones((4, 4), "uint8"), 1 / 2)); '
            'from diffrwkvir_arch.tools import doctor; from torch import device; '
            'print(doctor.check_backend("numba", device("cpu"), doctor.TOLERANCES["cpu"][0]))')
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert '[[1 1]' in run.stdout and 'not here: numba cannot be imported' in run.stdout, run.stderr


def test_float32_is_left_where_its_rounding_is_not_proven():
    for scale, dtype in ((1 / 2, np.float32), (1 / 3, np.float32), (1 / 4, np.float32), (1 / 8, np.float32),
                         (1 / 5, np.float64), (1 / 16, np.float64)):
        weights, _ = bicubic.contributions(480, scale)
        assert bicubic.precision(weights, 255)[0] is dtype
        assert bicubic.precision(weights, 65535)[0] is np.float64


@pytest.mark.parametrize('scale', [1 / 2, 1 / 3, 1 / 4, 1 / 8, 2, 3, 4])
def test_floats_are_resized_as_by_basicsr(scale):
    image = np.random.default_rng(1).random((48, 72, 3), dtype=np.float32)
    assert np.abs(imresize(image, scale) - basicsr_imresize(image, scale)).max() < 1e-5


def test_weights_of_a_half_are_keys_kernel():
    weights, indices = bicubic.contributions(24, 1 / 2)
    # k(d/2)/2 for the distances d = 3.5, 2.5, 1.5, 0.5 of the old pixels on either side.
    half = np.array([-3, -9, 29, 111]) / 256
    assert np.array_equal(weights[5], [*half, *half[::-1]]) and indices[5].tolist() == list(range(7, 15))


def test_borders_are_mirrored():
    image = noise(24, 24)
    wide = np.pad(image, 24, mode='symmetric')
    assert np.array_equal(imresize(image, 1 / 3), imresize(wide, 1 / 3)[8:16, 8:16])


def test_rounded_once_an_lr_is_nearest_to_the_exact_one():
    image = noise(96, 96, 3)
    exact = by_definition(image.astype(np.float64), 1 / 4).clip(0, 255)
    assert np.abs(imresize_once_rounded(image, 1 / 4) - exact).max() <= 0.5
    assert np.abs(imresize(image, 1 / 4) - exact).max() > 0.5


@pytest.mark.parametrize('shape', [(1, 1), (2, 7, 1), (3, 5, 3), (5, 2, 4)])
def test_tiny_images_and_any_number_of_channels(shape):
    image = noise(*shape)
    for scale in (1 / 4, 3):
        resized = imresize(image, scale)
        assert resized.shape == (*(math.ceil(side * scale) for side in shape[:2]), *shape[2:])
        assert np.array_equal(resized, by_definition(image, scale))


def test_a_side_that_is_a_multiple_shrinks_to_its_share():
    for scale in range(2, 17):
        assert all(len(bicubic.contributions(scale * side, 1 / scale)[0]) == side for side in range(1, 700, 13))


@pytest.mark.parametrize('image', [np.zeros((4, 4), np.int16), np.zeros((4, 4, 5), np.uint8), np.zeros(4, np.uint8),
                                   np.zeros((0, 4), np.uint8)])
def test_what_is_no_image_is_refused(image):
    with pytest.raises(ValueError, match='is needed, got'):
        imresize(image, 1 / 2)
