"""`basicsr compare`: folders of images that were restored elsewhere, beside methods that restore."""
import csv
import json
import os

import cv2
import numpy as np
import pytest
from compare_cases import EDSR, SCALE, write_method
from drawing import draw, noise
from skimage.metrics import peak_signal_noise_ratio

from diffrwkvir_arch.cli import main
from diffrwkvir_arch.tools.comparison.made_elsewhere import parse_folder
from diffrwkvir_arch.tools.pairs import write_pairs

PICTURES = {'cat': draw(40, 52, 0), 'face': draw(48, 40, 1)}


@pytest.fixture
def world(workdir):
    """A set, my set/GT with my set/LQ; a network, one.yml; theirs/, images of that set that came from elsewhere."""
    write_pairs(PICTURES, workdir / 'my set', SCALE)
    write_method(workdir, 'one', EDSR, seed=1)
    publish('theirs', 'cat_Theirs.png', 'face_Theirs.png')
    return workdir


def publish(folder, *names):
    """The pictures, a little worse, under these names."""
    os.makedirs(folder, exist_ok=True)
    for seed, (name, picture) in enumerate(zip(names, PICTURES.values())):
        assert cv2.imwrite(os.path.join(folder, name), picture // 2 + noise(*picture.shape, seed=seed) // 2)


def run(*methods, sets=('my set/GT:my set/LQ', ), more=()):
    return main(['compare', '--methods', *methods, '--sets', *sets, '--scale', str(SCALE), '-o', 'out',
                 '--metrics', 'psnr_rgb', *more])


def rows():
    with open('out/results.csv', encoding='utf-8') as file:
        return {(row['method'], row['image']): row for row in csv.DictReader(file)}


def test_images_from_elsewhere_are_measured_beside_methods_and_cost_nothing_that_is_known(world, capsys):
    assert run('bicubic', 'theirs', 'one.yml') == 0
    found = rows()
    assert len(found) == 6
    for seed, (name, picture) in enumerate(PICTURES.items()):
        restored = picture // 2 + noise(*picture.shape, seed=seed) // 2
        expected = peak_signal_noise_ratio(picture, restored)
        assert float(found['theirs', name]['psnr_rgb']) == pytest.approx(expected, abs=1e-3)
        assert found['theirs', name]['ms'] == '' and float(found['one', name]['ms']) > 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith('| theirs') and '–' in line)
    assert set(line.replace('theirs', '').split()) == {'|', '–'}
    means = {mean['method']: mean for mean in json.load(open('out/results.json'))['means']}
    assert means['theirs']['ms'] is None and means['theirs']['images'] == 2
    assert cv2.imread('out/my set.png') is not None and cv2.imread('out/bars_my set.png') is not None
    assert cv2.imread('out/scatter.png') is not None


def test_alone_they_have_no_plot_against_time(world, capsys):
    assert run('theirs') == 0
    assert not os.path.exists('out/scatter.png') and os.path.exists('out/bars_my set.png')


def test_they_are_read_anew_when_they_change(world):
    assert run('theirs') == 0
    before = rows()
    publish('theirs', 'face_Theirs.png')    # another picture under that name, of another size
    assert run('theirs') == 1
    publish('theirs', 'cat_Theirs.png', 'face_Theirs.png')
    cv2.imwrite('theirs/cat_Theirs.png', PICTURES['cat'])
    assert run('theirs') == 0
    assert rows()['theirs', 'cat']['psnr_rgb'] == 'inf' != before['theirs', 'cat']['psnr_rgb']
    assert rows()['theirs', 'face']['psnr_rgb'] == before['theirs', 'face']['psnr_rgb']


def test_results_of_a_test_of_basicsr_are_found_by_set_and_named_by_the_experiment(world):
    publish('results/test_SwinIR/visualization/first', 'cat_test_SwinIR.png', 'face_test_SwinIR.png')
    publish('results/test_SwinIR/visualization/second', 'cat.png', 'face.png')
    sets = 'first=my set/GT:my set/LQ', 'second=my set/GT:my set/LQ'
    assert run('results/test_SwinIR/visualization', sets=sets) == 0
    assert parse_folder('results/test_SwinIR/visualization').label == 'SwinIR'
    assert parse_folder('named=theirs').label == 'named' and parse_folder('one.yml') is None
    os.rename('theirs', 'bicubic')
    assert parse_folder('bicubic') is parse_folder('named=bicubic') is None
    assert parse_folder('./bicubic').label == 'bicubic'
    assert {method for method, _ in rows()} == {'SwinIR'}


def test_what_does_not_fit_the_set_is_that_methods_failure_alone(world, capsys):
    publish('some', 'cat.png')
    publish('large', 'cat.png', 'face.png')
    cv2.imwrite('large/face.png', np.zeros((96, 80, 3), np.uint8))
    assert run('some', 'large', 'theirs') == 1
    out = capsys.readouterr().out
    assert 'some has none for face of my set' in out
    assert 'large/face.png is 80x96, not 40x48' in out
    assert {method for method, _ in rows()} >= {'theirs'}


def test_known_pixels_of_an_inpainted_image_count_as_known(world):
    os.mkdir('masks')
    for name, picture in PICTURES.items():
        mask = np.zeros(picture.shape[:2], np.uint8)
        mask[8:20, 8:20] = 255
        cv2.imwrite(f'masks/{name}.png', mask)
        os.makedirs('black', exist_ok=True)
        cv2.imwrite(f'black/{name}.png', 0 * picture)
    assert main(['compare', '--masks', '--methods', 'black', '--sets', 'my set/GT:masks', '-o', 'out', '--metrics',
                 'hole_psnr', '--save-images']) == 0
    restored = cv2.imread('out/restored/my set/black/cat.png')
    assert not restored[8:20, 8:20].any()
    restored[8:20, 8:20] = PICTURES['cat'][8:20, 8:20]
    assert np.array_equal(restored, PICTURES['cat'])


@pytest.mark.parametrize('make, message', [
    ([], 'a folder of restored images, or of such folders called as the sets are, is needed, and it holds none\n'),
    (['net_g_1.pth'], 'it holds none; did you mean empty/net_g_1.pth?\n'),
])
def test_a_folder_without_images_is_told_before_anything_is_written(world, capsys, make, message):
    os.mkdir('empty')
    for name in make:
        open(os.path.join('empty', name), 'w').close()
    assert run('empty') == 2
    error = capsys.readouterr().err
    assert error.startswith('basicsr: error: --methods empty: ') and error.endswith(message)
    assert not os.path.exists('out')
