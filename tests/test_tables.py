"""The tables of the paper in Markdown."""
import math

import pytest

from diffrwkvir_arch.metrics.tables import quality_table

ROWS = [{'method': 'A_1', 'set': 'Set5', 'psnr_y': 30.001, 'lpips_alex': 0.2, 'images': 5},
        {'method': 'B|2', 'set': 'Set5', 'psnr_y': 29.999, 'lpips_alex': None, 'images': 5},
        {'method': 'C', 'set': 'Set5', 'psnr_y': 29.5, 'lpips_alex': 0.1},
        {'method': 'A_1', 'set': 'Set14', 'psnr_y': 27.0},
        {'method': 'C', 'set': 'Set14', 'psnr_y': math.nan}]


def test_a_markdown_table_marks_best_and_second_in_each_metrics_own_direction():
    assert quality_table(ROWS).splitlines() == [
        '| Method | Set5 PSNR-Y ↑ | Set5 LPIPS-ALEX ↓ | Set5 IMAGES | Set14 PSNR-Y ↑ |',
        '| --- | ---: | ---: | ---: | ---: |',
        '| A_1 | **30.00** | <u>0.2000</u> | 5 | 27.00 |',
        '| B\\|2 | **30.00** | – | 5 | – |',
        '| C | <u>29.50</u> | **0.1000** | – | – |']


def test_the_better_direction_of_every_metric_is_known():
    for name in ('psnr', 'ssim_rgb', 'hole_ssim', 'rmse', 'sam', 'lpips_vgg', 'niqe', 'fid', 'kid'):
        best = 2. if 'psnr' in name or 'ssim' in name else 1.
        assert f'**{best}' in quality_table([{'method': value, 'set': 's', name: value} for value in (1., 2.)])


def test_rows_that_make_no_table_are_refused():
    for rows, message in (([], 'no results'), ([{'method': 'A', 'psnr': 1.}], "'set'"),
                          ([{'method': 'A', 'set': 's', 'psnr': '30'}], 'be a number'), (ROWS[:1] * 2, 'two rows')):
        with pytest.raises(ValueError, match=message):
            quality_table(rows)
