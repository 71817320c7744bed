"""Degradations and metrics of BasicSR: upstream's faults and their mends."""
import math

import cv2
import numpy as np
import pytest
from basicsr.data import degradations
from basicsr.metrics import calculate_metric

from diffrwkvir_arch.errors import InputError


def test_jpeg_degradation_takes_a_fractional_quality():
    image = np.full((8, 8, 3), 0.5, np.float32)
    with pytest.raises(cv2.error):
        degradations.add_jpg_compression.upstream(image, 80.4)
    expected = degradations.add_jpg_compression.upstream(image, 80)
    assert np.array_equal(degradations.add_jpg_compression(image, 80.4), expected)


def test_a_metric_without_ground_truth_says_so():
    data, opt = {'img': np.zeros((16, 16, 3), np.uint8)}, {'type': 'calculate_psnr', 'crop_border': 0}
    with pytest.raises(TypeError, match='img2'):
        calculate_metric.upstream(data, dict(opt))
    with pytest.raises(InputError, match='calculate_psnr compares with a ground truth'):
        calculate_metric(data, dict(opt))
    assert calculate_metric({**data, 'img2': data['img'] + 1}, dict(opt)) > 40


@pytest.mark.parametrize('metric, border', [('psnr', 16), ('psnr', 1000), ('ssim', 11), ('ssim', 16)])
@pytest.mark.parametrize('order', ['HWC', 'CHW'])
def test_what_lies_within_its_border_is_nan_with_one_line(metric, border, order, recwarn):
    image = np.zeros((32, 40, 3) if order == 'HWC' else (3, 32, 40), np.uint8)
    opt = {'type': f'calculate_{metric}', 'crop_border': border, 'input_order': order}
    assert math.isnan(calculate_metric({'img': image, 'img2': image}, opt))
    (warning, ) = recwarn
    assert 'is nan: an image of 40x32 pixels has less than' in str(warning.message)
    least = 11 if metric == 'ssim' else 1
    assert calculate_metric({'img': image, 'img2': image}, {**opt, 'crop_border': (32 - least) // 2}) >= 1
