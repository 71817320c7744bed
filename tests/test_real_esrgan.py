"""Real-ESRGAN's degradation: each option does what it says; as a whole it degrades as BasicSR's model does."""
import inspect
import random
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from basicsr.data import build_dataset
from basicsr.models import realesrgan_model
from drawing import draw

from diffrwkvir_arch.bicubic import imresize
from diffrwkvir_arch.data import real_esrgan
from diffrwkvir_arch.data.degradations import build_degradations
from diffrwkvir_arch.data.real_esrgan import RealESRGAN
from diffrwkvir_arch.data.simple_degradations import compressed
from diffrwkvir_arch.errors import InputError

# As little as it can do: no noise, kernels that do nothing, one size, JPEG at its best.
MILD = {
    'type': 'real_esrgan', 'second_blur_prob': 0, 'final_sinc_prob': 0,
    **{f'{key}{suffix}': value for suffix in ('', '2') for key, value in {
        'sinc_prob': 0, 'blur_sigma': 0.1, 'kernel_list': ['iso'], 'kernel_prob': [1], 'resize_prob': [0, 0, 1],
        'gaussian_noise_prob': 1, 'noise_range': 0, 'jpeg_range': 100}.items()},
}
# The values of Real-ESRGAN's option files, for BasicSR's model and dataset.
KERNELS = {'kernel_list': ['iso', 'aniso', 'generalized_iso', 'generalized_aniso', 'plateau_iso', 'plateau_aniso'],
           'kernel_prob': [0.45, 0.25, 0.12, 0.03, 0.12, 0.03], 'blur_kernel_size': 21, 'sinc_prob': 0.1,
           'betag_range': [0.5, 4], 'betap_range': [1, 2]}
THEIR_DATA = {**KERNELS, **{f'{key}2': value for key, value in KERNELS.items()}, 'blur_sigma': [0.2, 3],
              'blur_sigma2': [0.2, 1.5], 'final_sinc_prob': 0.8, 'use_hflip': False, 'use_rot': False}
THEIRS = {'scale': 4, 'gt_size': 256, 'second_blur_prob': 0.8,
          'resize_prob': [0.2, 0.7, 0.1], 'resize_range': [0.15, 1.5], 'gaussian_noise_prob': 0.5,
          'noise_range': [1, 30], 'poisson_scale_range': [0.05, 3], 'gray_noise_prob': 0.4, 'jpeg_range': [30, 95],
          'resize_prob2': [0.3, 0.4, 0.3], 'resize_range2': [0.3, 1.2], 'gaussian_noise_prob2': 0.5,
          'noise_range2': [1, 25], 'poisson_scale_range2': [0.05, 2.5], 'gray_noise_prob2': 0.4,
          'jpeg_range2': [30, 95]}


@pytest.fixture(autouse=True)
def seed():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def degrade(image, scale=1, **options):
    degradation, = build_degradations('degradation', {**MILD, **options}, scale)
    return degradation(image)


def picture(height, width):
    """A grey one: of colours JPEG at its best keeps every other pixel."""
    return draw(height, width, 0)[..., :1].repeat(3, 2).astype(np.float32) / 255


def psnr(x, y):
    return -10 * np.log10(np.square(x - y).mean())


@pytest.mark.parametrize('scale', [1, 2, 3, 4])
def test_the_lq_has_8_bits_and_whole_sides(scale):
    full, = build_degradations('degradation', {'type': 'real_esrgan'}, scale)
    for image in (picture(50, 71), picture(scale, scale)):
        lq = full(image)
        assert lq.dtype == np.float32 and lq.shape == (image.shape[0] // scale, image.shape[1] // scale, 3)
        assert 0 <= lq.min() and lq.max() <= 1 and np.allclose(lq * 255, (lq * 255).round(), atol=1e-4)


def test_at_its_mildest_it_makes_images_smaller_and_nothing_else():
    image = picture(128, 160)
    assert psnr(degrade(image), image) > 40
    smooth = cv2.GaussianBlur(image, (0, 0), 2)
    truth = imresize((smooth * 255).round().astype(np.uint8), 1 / 4) / 255
    assert min(psnr(degrade(smooth, 4), truth) for _ in range(6)) > 30


@pytest.mark.parametrize('suffix', ['', '2'])
def test_noise_has_the_deviation_asked_for_and_may_be_grey(suffix):
    flat = np.full((128, 128, 3), 0.5, np.float32)

    def noise(**options):
        return (degrade(flat, **{f'{key}{suffix}': value for key, value in options.items()}) - 0.5) * 255

    coloured, grey = (noise(noise_range=20, gray_noise_prob=prob) for prob in (0, 1))
    assert grey.std() == pytest.approx(20, rel=0.1)
    assert np.ptp(grey, axis=2).mean() < 2 and np.ptp(coloured, axis=2).mean() > 5


@pytest.mark.parametrize('gray_noise_prob', [0, 1])
def test_poissons_noise_grows_with_light(gray_noise_prob):
    ramp = np.repeat(np.linspace(0.1, 0.7, 8, dtype=np.float32), 32)[None, :, None].repeat(200, 0).repeat(3, 2)
    noise = degrade(ramp, gaussian_noise_prob=0, gray_noise_prob=gray_noise_prob, poisson_scale_range=1) - ramp
    dark, light = noise[:, :32].std(), noise[:, -32:].std()
    assert light == pytest.approx(7**0.5 * dark, rel=0.2)


def test_blur_resizing_and_jpeg_take_away_detail():
    image = picture(160, 160)
    best = psnr(degrade(image), image)
    for options in ({'blur_sigma': 3}, {'blur_sigma2': 1.5, 'second_blur_prob': 1}, {'sinc_prob': 1},
                    {'sinc_prob2': 1, 'second_blur_prob': 1}, {'jpeg_range': [5, 5]}, {'jpeg_range2': 5},
                    {'resize_prob': [0, 1, 0], 'resize_range': [0.2, 1]}, {'final_sinc_prob': 1},
                    {'resize_prob2': [0, 1, 0], 'resize_range2': [0.2, 1]}):
        assert np.mean([psnr(degrade(image, **options), image) for _ in range(5)]) < best - 3, options


def test_it_degrades_as_basicsrs_model_does(tmp_path, monkeypatch):
    """That draws from the same distributions; its JPEG, which is none, takes 0.4 dB more and is replaced here."""
    image, border = draw(256, 256, 3), 72
    cv2.imwrite(str(tmp_path / 'a.png'), cv2.copyMakeBorder(image, *[border] * 4, cv2.BORDER_REFLECT_101))
    (tmp_path / 'list.txt').write_text('a.png\n')
    dataset = build_dataset({'name': 'theirs', 'type': 'RealESRGANDataset', 'dataroot_gt': str(tmp_path), **THEIR_DATA,
                             'meta_info': str(tmp_path / 'list.txt'), 'io_backend': {'type': 'disk'}, 'phase': 'train'})
    monkeypatch.setattr(realesrgan_model, 'paired_random_crop', lambda gts, lq, size, scale: (gts, lq))

    def jpeg(images, quality):
        quality = int(quality[0])
        lq = compressed(images[0].permute(1, 2, 0).numpy(), (quality, quality))
        return torch.from_numpy(np.ascontiguousarray(lq)).permute(2, 0, 1)[None]

    model = SimpleNamespace(is_train=True, opt=THEIRS, device='cpu', usm_sharpener=lambda x: x, jpeger=jpeg,
                            _dequeue_and_enqueue=lambda: None)
    full, = build_degradations('degradation', {'type': 'real_esrgan'}, 4)
    truth, inside = imresize(image[..., ::-1], 1 / 4) / 255, border // 4
    ours, theirs = [], []
    for _ in range(40):
        item = dataset[0]
        realesrgan_model.RealESRGANModel.feed_data(
            model, {key: value[None] for key, value in item.items() if torch.is_tensor(value)})
        theirs.append(model.lq[0, :, inside:-inside, inside:-inside].permute(1, 2, 0).numpy())
    for _ in range(160):
        ours.append(full(image[..., ::-1].astype(np.float32) / 255))
    ours, theirs = ([psnr(lq, truth) for lq in lqs] for lqs in (ours, theirs))
    # 40 draws know the mean to about a third of a dB.
    assert np.mean(ours) == pytest.approx(np.mean(theirs), abs=1)
    assert np.std(ours) == pytest.approx(np.std(theirs), rel=0.4)


def test_options_that_are_left_out_have_real_esrgans_values():
    defaults = {name: list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
                for name, parameter in inspect.signature(RealESRGAN).parameters.items()}
    published = {**THEIRS, **THEIR_DATA}
    assert {name: published[name] for name in defaults if name not in ('option', 'scale')} == {
        name: value for name, value in defaults.items() if name not in ('option', 'scale')}


@pytest.fixture
def drawn(monkeypatch):
    """What is asked of BasicSR's kernels: (size, cutoff) of sinc filters and arguments of the others."""
    seen = SimpleNamespace(sinc=[], mixed=[])

    def sinc(cutoff, size):
        seen.sinc.append((size, cutoff))
        return np.ones((1, 1))

    def mixed(*arguments):
        seen.mixed.append(arguments)
        return np.ones((1, 1))

    monkeypatch.setattr(real_esrgan, 'circular_lowpass_kernel', sinc)
    monkeypatch.setattr(real_esrgan, 'random_mixed_kernels', mixed)
    return seen


@pytest.mark.parametrize('suffix, seldom', [('', {}), ('2', {'second_blur_prob': 1})])
def test_sinc_filters_have_the_papers_sizes_and_cutoffs(drawn, suffix, seldom):
    image = picture(8, 8)
    for _ in range(300):
        degrade(image, **{f'sinc_prob{suffix}': 1}, **seldom)
    assert {size for size, _ in drawn.sinc} == set(range(7, 22, 2))
    for small in (True, False):
        cutoffs = [cutoff / np.pi for size, cutoff in drawn.sinc if (size < 13) == small]
        least = 1 / 3 if small else 1 / 5
        assert least <= min(cutoffs) < least + 0.1 and 0.9 < max(cutoffs) <= 1


def test_the_last_sinc_filter_comes_before_jpeg_or_after_it(drawn, monkeypatch):
    order, original = [], real_esrgan.compressed
    monkeypatch.setattr(real_esrgan, 'compressed', lambda *given: (order.append(len(drawn.sinc)), original(*given))[1])
    image = picture(8, 8)
    for _ in range(200):
        degrade(image, final_sinc_prob=1)
    # At each image's second JPEG: has its filter been made?
    before = sum(made > number for number, made in enumerate(order[1::2]))
    assert 60 < before < 140 and len(drawn.sinc) == 200
    cutoffs = [cutoff / np.pi for _, cutoff in drawn.sinc]
    assert 1 / 3 <= min(cutoffs) < 0.4 and 0.9 < max(cutoffs) <= 1


def test_kernels_get_their_own_exponents(drawn):
    degrade(picture(8, 8), betag_range=[0.6, 3], betap_range=[0.7, 2], betag_range2=[0.8, 4], betap_range2=[0.9, 5],
            second_blur_prob=1)
    (first, second) = drawn.mixed
    assert first[-2:] == ((0.6, 3), (0.7, 2)) and second[-2:] == ((0.8, 4), (0.9, 5))
    assert first[5] == second[5] == (-np.pi, np.pi)


def test_grey_poisson_noise_is_that_of_bgr(monkeypatch):
    seen, original = [], real_esrgan.random_add_poisson_noise
    monkeypatch.setattr(real_esrgan, 'random_add_poisson_noise', lambda image, *given: (seen.append(image.mean((0, 1))),
                                                                                        original(image, *given))[1])
    red = np.zeros((16, 16, 3), np.float32)
    red[..., 0] = 1
    lq = degrade(red, gaussian_noise_prob=0, poisson_scale_range=0)
    assert seen[0][2] > 0.95 and seen[0][0] < 0.05 and lq[..., 0].mean() > 0.9


@pytest.mark.parametrize('options, message', [
    ({'betag_range': [2, 4]}, r'betag_range must reach from at most 1 to at least 1, got \[2, 4\]'),
    ({'betap_range2': 2}, 'betap_range2 must reach from at most 1 to at least 1, got 2'),
    ({'kernel_list': ['iso', 'box'], 'kernel_prob': [1, 1]}, "kernel_list: unknown kernel 'box'; choose from iso"),
    ({'kernel_list2': 'iso'}, "kernel_list2 must be a list, got 'iso'"),
    ({'kernel_prob': [1, 2]}, r'kernel_prob must be 1 numbers of at least 0, not all 0, got \[1, 2\]'),
    ({'resize_prob2': [0, 0, 0]}, 'resize_prob2 must be 3 numbers of at least 0, not all 0'),
    ({'resize_range': [0.2, 0.9]}, r'resize_range must reach from at most 1 to at least 1, got \[0.2, 0.9\]'),
    ({'gray_noise_prob': 2}, 'gray_noise_prob must be a number of 0 to 1, got 2'),
    ({'second_blur_prob': '1'}, "second_blur_prob must be a number of 0 to 1, got '1'"),
    ({'final_sinc_prob': True}, 'final_sinc_prob must be a number of 0 to 1, got True'),
    ({'noise_range2': [-1, 3]}, 'noise_range2 must be a number of 0 to 255, or a pair'),
    ({'jpeg_range2': [30.5, 95]}, 'jpeg_range2 must be a whole number of 1 to 100'),
    ({'blur_sigma': 0}, 'blur_sigma must be a number of 0.1 to 21'),
    ({'betap_range': [2, 1]}, r'betap_range must be a number of 0.1 to 10, or a pair .* got \[2, 1\]'),
    ({'jpeg_rnage': [30, 95]}, "unknown option 'degradation.jpeg_rnage'.*did you mean 'jpeg_range'"),
    ({'scale': 4}, 'degradation.scale: leave it out, it is that of the option file, 4')])
def test_options_that_cannot_work_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        build_degradations('degradation', {**MILD, **options}, 4)
