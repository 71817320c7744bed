"""`basicsr compare`: its numbers, what it keeps and reuses, what it does with failures, and its pictures."""
import csv
import json
import os

import cv2
import numpy as np
import pytest
import torch
import yaml
from compare_cases import DIFFUSING, EDSR, SCALE, build, interrupted_at_the_fifth, write_method
from diffrwkvir_arch.bicubic import imresize_once_rounded
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.tools import compare
from diffrwkvir_arch.tools.comparison import contest, methods, plots
from diffrwkvir_arch.tools.comparison.image_sets import parse_sets
from diffrwkvir_arch.tools.comparison.journal import Journal
from diffrwkvir_arch.tools.comparison.names import split_label, split_pair
from diffrwkvir_arch.tools.pairs import write_pairs
from skimage import data
from skimage.metrics import peak_signal_noise_ratio

pytestmark = pytest.mark.usefixtures('no_plots')
PSNR = ['--metrics', 'psnr_y', 'psnr_rgb', 'rmse']


@pytest.fixture
def photos():
    """Crops of scikit-image's photographs, of different and odd sizes, one of them grey; BGR uint8."""
    return {'cat': data.chelsea()[60:101, 100:153, ::-1], 'face': data.astronaut()[80:128, 200:240, ::-1],
            'man': data.camera()[100:137, 200:250]}


@pytest.fixture
def world(tmp_path, monkeypatch, photos):
    """A folder with two sets, `a set/GT` with `a set/LQ`, and `alone`; two option files; it is the current one."""
    folder = tmp_path / 'with spaces'
    folder.mkdir()
    monkeypatch.chdir(folder)
    write_pairs({name: photos[name] for name in ('cat', 'face')}, folder / 'a set', SCALE)
    (folder / 'alone').mkdir()
    cv2.imwrite(str(folder / 'alone' / 'man.png'), photos['man'])
    write_method(folder, 'one', EDSR, seed=1)
    write_method(folder, 'two', DIFFUSING, seed=2)
    return folder


def run(*arguments, metrics=PSNR):
    return compare.main([*map(str, arguments), '-o', 'out', *metrics])


def rows_of(path):
    with open(path, encoding='utf-8') as file:
        return list(csv.DictReader(file))


ALL = ['--methods', 'bicubic', 'one.yml', 'second=two.yml', '--sets', 'pairs=a set/GT:a set/LQ', 'alone']
IMAGES = [('pairs', 'cat'), ('pairs', 'face'), ('alone', 'man')]


def test_tables_hold_what_an_independent_calculation_finds(world, photos, capsys):
    assert run(*ALL) == 0
    found = {(row['method'], row['set'], row['image']): row for row in rows_of('out/results.csv')}
    assert list(found) == [(method, *image) for method in ('bicubic', 'one', 'second') for image in IMAGES]
    nets = {'one': build(EDSR, 1), 'second': build(DIFFUSING, 2)}
    psnr = {}
    for (method, set_name, image), row in found.items():
        photo = photos[image] if photos[image].ndim == 3 else photos[image][..., None].repeat(3, 2)
        gt = photo[:photo.shape[0] // SCALE * SCALE, :photo.shape[1] // SCALE * SCALE]
        lq = imresize_once_rounded(gt, 1 / SCALE)
        if method == 'bicubic':
            restored = imresize_once_rounded(lq, SCALE)
        else:
            tensor = torch.from_numpy(lq[..., ::-1].copy()).permute(2, 0, 1)[None] / 255
            with torch.no_grad():
                output = nets[method](tensor)[0].permute(1, 2, 0).numpy()[..., ::-1]
            restored = (output.clip(0, 1) * 255).round().astype(np.uint8)
        luma = [(img.astype(float) @ [24.966, 128.553, 65.481] / 255 + 16)[SCALE:-SCALE, SCALE:-SCALE]
                for img in (gt, restored)]
        psnr[method, set_name, image] = peak_signal_noise_ratio(gt, restored)
        assert float(row['psnr_rgb']) == pytest.approx(psnr[method, set_name, image], abs=1e-3)
        assert float(row['psnr_y']) == pytest.approx(peak_signal_noise_ratio(*luma, data_range=255), abs=1e-3)
        assert float(row['rmse']) == pytest.approx(np.sqrt(np.mean((gt.astype(float) - restored)**2)), abs=1e-3)
        assert float(row['ms']) > 0
    means = {(mean['method'], mean['set']): mean for mean in json.load(open('out/results.json'))['means']}
    expected = (psnr['one', 'pairs', 'cat'] + psnr['one', 'pairs', 'face']) / 2
    assert means['one', 'pairs']['psnr_rgb'] == pytest.approx(expected)
    text = (world / 'out' / 'results.md').read_text(encoding='utf-8')
    line = next(line for line in text.splitlines() if line.startswith('| one '))
    assert f'{expected:.2f}' in line and text in capsys.readouterr().out


def test_costs_are_those_of_the_network_at_the_size_that_is_printed(world):
    assert run('--methods', 'bicubic', 'one.yml', '--sets', 'alone', '--input', 3, 8, 12) == 0
    costs = {method['name']: method for method in json.load(open('out/results.json'))['methods']}
    assert costs['one']['parameters'] == sum(p.numel() for p in build(EDSR, 1).parameters())
    # 3x3 convolutions: first, two of the block, one after the body, to four times the channels, and the last at x2.
    weights = 9 * (3 * 8 + 2 * 8 * 8 + 8 * 8 + 8 * 32) + 4 * 9 * 8 * 3
    assert costs['one']['flops'] == 2 * 8 * 12 * weights
    assert costs['bicubic']['parameters'] == 0 and costs['bicubic']['flops'] is None
    assert '3 x 8 x 12' in (world / 'out/results.md').read_text(encoding='utf-8')


def test_a_method_is_called_once_before_it_is_timed(world, monkeypatch):
    seen, restore, timed = [], methods.Network.restore, contest.milliseconds
    monkeypatch.setattr(methods.Network, 'restore', lambda *images: seen.append('call') or restore(*images))
    monkeypatch.setattr(contest, 'milliseconds', lambda *call: seen.append('timed') or timed(*call))
    assert run('--methods', 'one.yml', '--sets', 'a set/GT:a set/LQ') == 0
    repeats = ['timed', 'call'] * (seen.count('timed') // 2)
    assert seen == ['call', *repeats, *repeats] and repeats


def test_what_was_finished_is_not_computed_again(world, calls):
    for _ in range(2):
        assert run(*ALL) == 0
    assert len(calls) == 9
    first = (world / 'out/results.csv').read_text(encoding='utf-8')
    # Another method beside it, and a metric less.
    write_method(world, 'three', EDSR, seed=3)
    assert run('--methods', 'three.yml', *ALL[1:], metrics=PSNR[:2]) == 0
    assert calls[9:] == [('three', image) for _, image in IMAGES]
    # Other weights under an old name.
    write_method(world, 'one', EDSR, seed=4)
    assert run(*ALL) == 0
    assert calls[12:] == [('one', image) for _, image in IMAGES]
    assert (world / 'out/results.csv').read_text(encoding='utf-8') != first
    # Another image under an old name.
    cv2.imwrite('alone/man.png', np.full((32, 32, 3), 9, np.uint8))
    assert run(*ALL) == 0
    assert calls[15:] == [(method, 'man') for method in ('bicubic', 'one', 'second')]
    # Other names for the same.
    assert run('--methods', 'first=one.yml', 'bicubic', '--sets', 'renamed=a set/GT:a set/LQ') == 0
    assert len(calls) == 18 and cv2.imread('out/renamed.png') is not None
    assert run(*ALL, '--fresh') == 0
    assert len(calls) == 18 + 9


def test_a_metric_more_is_measured_on_the_images_that_were_kept(world, calls):
    assert run(*ALL, '--save-images', metrics=PSNR[:2]) == 0
    first = rows_of('out/results.csv')
    calls.clear()
    assert run(*ALL) == 0 and not calls
    with_more = rows_of('out/results.csv')
    assert [row['ms'] for row in with_more] == [row['ms'] for row in first]
    assert run(*ALL, '--fresh') == 0 and len(calls) == 9
    for found, fresh in zip(with_more, rows_of('out/results.csv')):
        assert [found[name] for name in PSNR[1:]] == [fresh[name] for name in PSNR[1:]]


def test_where_no_method_finishes_a_set_no_table_or_picture_of_earlier_ones_is_left(world, capsys, monkeypatch):
    monkeypatch.setattr(compare, 'write_plots', plots.write_plots)
    assert run('--methods', 'one.yml', '--sets', 'alone', 'pairs=a set/GT') == 0
    assert run('--methods', 'one.yml:two.pth', '--sets', 'alone') == 1
    assert sorted(os.listdir('out')) == ['bars_pairs.png', 'failures.log', 'pairs.png', 'restored', 'results.json',
                                         'results.jsonl', 'results.md']
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith('0 results'))
    assert line.endswith('out: results.md, results.json, no contact sheet of alone: no method finished it')


def test_an_interrupt_loses_one_image_at_most(world, calls):
    with interrupted_at_the_fifth(calls, '4 of 9 results are done'):
        run(*ALL)
    # Killed while it wrote a line.
    with open('out/results.jsonl', 'a', encoding='utf-8') as file:
        file.write('{"key": "12')
    assert run(*ALL) == 0
    journal = Journal('out/results.jsonl')
    assert len(journal.results) == 9 + 3    # results and costs
    assert len(rows_of('out/results.csv')) == 9


def test_a_method_that_fails_is_reported_and_the_others_go_on(world, capsys, monkeypatch):
    write_method(world, 'larger', {**EDSR, 'upscale': 3}, scale=3)
    write_method(world, 'lying', {**EDSR, 'upscale': 4})
    write_method(world, 'hungry', EDSR)
    (world / 'noise.pth').write_bytes(b'no checkpoint')
    load = methods.Method.load

    def hungry_load(self, scale, device):
        restorer = load(self, scale, device)
        if self.label == 'hungry':
            call = restorer.call

            def restore(lq):
                if lq.shape[-1] == 20:
                    raise torch.cuda.OutOfMemoryError('CUDA out of memory')
                return call(lq)

            restorer.call = restore
        return restorer

    monkeypatch.setattr(methods.Method, 'load', hungry_load)
    specs = ['bicubic', 'gone=gone.pth', 'misspelt=on.yml', 'larger.yml', 'lying.yml', 'hungry.yml', 'noise.pth',
             'unfit=one.yml:two.pth', 'one.yml']
    assert run('--methods', *specs, *ALL[4:], '--scale', 2) == 1
    output = capsys.readouterr().out
    reasons = {'gone': 'gone.pth does not exist', 'misspelt': 'on.yml does not exist',
               'larger': 'it is made for scale 3, --scale is 2', 'lying': 'network_g.upscale: 4 differs from scale: 2',
               'hungry on pairs': 'face: out of memory; --tile 256 needs less', 'noise': 'noise.pth is damaged',
               'unfit': 'two.pth does not fit EDSR'}
    for method, reason in reasons.items():
        assert any(line.startswith(f'failed: {method}: ') and reason in line for line in output.splitlines()), method
    finished = {(row['method'], row['set'], row['image']) for row in rows_of('out/results.csv')}
    assert finished == {(method, *image) for method in ('bicubic', 'one', 'hungry') for image in IMAGES} - {
        ('hungry', 'pairs', 'face')}
    assert '| hungry (failed) | – | – | – |' in output and '| gone (failed) |' in output
    # What failed is tried again, and what was finished is not.
    monkeypatch.undo()
    os.chdir(world)
    assert run('--methods', 'hungry.yml', *ALL[4:]) == 0


def test_an_output_that_is_not_finite_is_a_failure(world, capsys):
    weights = torch.load('one.pth')
    weights['params']['conv_last.bias'].fill_(float('nan'))
    torch.save(weights, 'one.pth')
    assert run('--methods', 'one.yml', 'bicubic', '--sets', 'alone') == 1
    assert 'failed: one on alone: man: its output holds nan or infinity' in capsys.readouterr().out


def test_restored_images_are_kept_where_asked_or_drawn(world, calls, monkeypatch):
    run(*ALL, '--crops', 1)
    kept = {path.name for path in (world / 'out/restored/pairs/one').iterdir()}
    assert len(kept) == 1
    monkeypatch.setattr(compare, 'write_plots', plots.write_plots)
    run(*ALL, '--crops', 1, '--save-images')
    for method in ('bicubic', 'one', 'second'):
        assert {path.name for path in (world / 'out/restored/pairs' / method).iterdir()} == {'cat.png', 'face.png'}
    # A later run does not throw them away.
    run(*ALL, '--crops', 1)
    assert len(os.listdir('out/restored/pairs/one')) == 2
    # What is no longer what was restored is restored again.
    os.replace('out/restored/pairs/one/face.png', 'out/restored/pairs/one/cat.png')
    calls.clear()
    run(*ALL, '--save-images')
    assert calls == [('one', 'cat'), ('one', 'face')]
    for picture in ('pairs', 'alone', 'scatter', 'bars_pairs', 'bars_alone'):
        assert cv2.imread(f'out/{picture}.png') is not None, picture


def test_a_perfect_image_is_infinite_in_tables_and_left_out_of_plots(world, monkeypatch):
    monkeypatch.setattr(compare, 'write_plots', plots.write_plots)
    (world / 'flat').mkdir()
    cv2.imwrite('flat/grey.png', np.full((24, 24, 3), 100, np.uint8))
    assert run('--methods', 'bicubic', 'one.yml', '--sets', 'flat') == 0
    means = json.load(open('out/results.json'), parse_constant=pytest.fail)['means']
    assert means[0]['psnr_rgb'] == 'inf' and means[0]['rmse'] == 0 and means[1]['rmse'] > 0
    assert '| bicubic | **inf** | **inf** |' in (world / 'out/results.md').read_text(encoding='utf-8')
    assert cv2.imread('out/bars_flat.png') is not None


def test_a_metric_without_its_weights_is_left_out_with_the_reason(world, monkeypatch, capsys):
    monkeypatch.setenv('TORCH_HOME', str(world))
    metrics = ['--metrics', 'rmse', 'lpips_alex']
    assert run('--methods', 'bicubic', '--sets', 'alone', '--scale', 2, metrics=metrics) == 0
    output = capsys.readouterr().out
    assert output.startswith('lpips_alex left out: ') and 'alexnet' in output.splitlines()[0]
    assert list(rows_of('out/results.csv')[0]) == ['method', 'set', 'image', 'rmse', 'ms', 'peak_mb']


def test_images_without_gt_are_scored_by_what_needs_none(world, capsys):
    (world / 'LQ').mkdir()
    cv2.imwrite('LQ/large.png', cv2.resize(data.chelsea(), (100, 100)))
    cv2.imwrite('LQ/small.png', cv2.resize(data.chelsea(), (20, 20)))
    options = {'scale': SCALE, 'datasets': {'test_1': {'name': 'mine', 'type': 'SingleImageDataset',
                                                       'dataroot_lq': 'LQ'}}}
    (world / 'sets.yml').write_text(yaml.safe_dump(options), encoding='utf-8')
    assert run('--methods', 'bicubic', 'one.yml', '--sets', 'sets.yml', metrics=['--metrics', 'psnr_y', 'niqe']) == 0
    large, small = rows_of('out/results.csv')[:2]
    assert large['psnr_y'] == small['psnr_y'] == small['niqe'] == '' and float(large['niqe']) > 0
    assert 'niqe: mean over the 1 image of 2 on which it is defined' in capsys.readouterr().out
    assert cv2.imread('out/mine.png') is not None


def test_a_stage_1_network_gets_the_gt_and_the_table_says_so(world, capsys):
    write_method(world, 'first', {**DIFFUSING, 'type': 'DiffRWKVIRS1'})
    assert run('--methods', 'first.yml', '--sets', 'alone') == 0
    assert '| first (reads its prior from the GT) |' in capsys.readouterr().out


def test_lqs_are_found_by_their_names_and_made_where_there_are_none(world, photos):
    os.replace('a set/LQ/cat.png', 'a set/LQ/catx2.png')
    os.replace('a set/LQ/face.png', 'a set/LQ/facex2.png')
    paired = parse_sets('a set/GT:a set/LQ', SCALE)[0]
    made = parse_sets('a set/GT', SCALE)[0]
    assert paired.name == made.name == 'a set' and paired.names == ['cat', 'face']
    for index in range(2):
        one, other = paired.sample(index), made.sample(index)
        assert torch.allclose(one.make_lq(), other.make_lq()) and np.array_equal(one.gt, other.gt)
        assert one.fingerprint != other.fingerprint
    assert parse_sets('alone', SCALE)[0].sample(0).gt.shape == (36, 50, 3)


def test_an_image_too_small_to_be_shrunk_costs_its_set_alone(world, capsys):
    (world / 'tiny').mkdir()
    cv2.imwrite('tiny/dot.png', np.zeros((5, 1, 3), np.uint8))
    assert run('--methods', 'bicubic', 'one.yml', '--sets', 'tiny', 'alone') == 1
    output = capsys.readouterr().out
    assert output.count('dot.png (1x5) is too small to be shrunk by 2\n') >= 2
    finished = [(row['method'], row['set']) for row in rows_of('out/results.csv')]
    assert finished == [('bicubic', 'alone'), ('one', 'alone')]
    with pytest.raises(InputError, match='too small'):
        run('--methods', 'bicubic', '--scale', 2, '--sets', 'tiny')


def test_images_that_differ_in_their_extension_alone_keep_two_names(world):
    cv2.imwrite('alone/man.bmp', np.zeros((16, 16, 3), np.uint8))
    assert parse_sets('alone', SCALE)[0].names == ['man.bmp', 'man.png']


def test_names_and_pairs_are_told_from_paths(world):
    assert split_label('ours=a.yml', '-') == ('ours', 'a.yml') and split_label('a.yml', '-') == (None, 'a.yml')
    assert split_pair('GT:LQ') == ('GT', 'LQ') and split_pair('GT') == ('GT', None)
    assert split_pair(r'C:\GT:D:\LQ') == (r'C:\GT', r'D:\LQ')
    for name in ('x=1:2', 'y:z'):
        (world / name).mkdir()
        assert split_label(name, '-') == (None, name) and split_pair(name) == (name, None)
    assert split_label('x=1:x=2', '-') == ('x', '1:x=2')
    (world / 'x=1').mkdir()
    assert split_label('x=1:x=2', '-') == (None, 'x=1:x=2') and split_label('a=x=1:x=2', '-') == ('a', 'x=1:x=2')


@pytest.mark.parametrize('arguments, message', [
    (['--methods', 'bicubic', '--sets', 'alone'], '--scale is missing'),
    (['--methods', 'bicubic', 'bicubic', '--scale', '2', '--sets', 'alone'], "--methods: two are called 'bicubic'"),
    (['--methods', '=one.yml', '--sets', 'alone', '--scale', '2'], '--methods =one.yml: write NAME=WHAT'),
    (['--methods', 'a/b=bicubic', '--sets', 'alone', '--scale', '2'], '--methods a/b=bicubic: write NAME=WHAT'),
    (['--methods', '..=bicubic', '--sets', 'alone', '--scale', '2'], "--methods: one is called '..', and it cannot be"),
    (['--methods', 'one.yml', '--sets', '.=alone'], "--sets: one is called '.', and it cannot be a file's"),
    (['--methods', 'one.yml', '--sets', 'scatter=alone'], "called 'scatter', and scatter.png is another picture"),
    (['--methods', 'one.yml', '--sets', 'a=alone', 'bars_a=a set/GT'], "called 'bars_a', and bars_a.png is another"),
    (['--methods', 'one.pth:two.pth', '--sets', 'alone', '--scale', '2'], 'only an option file takes a second path'),
    (['--methods', 'one.yml', '--sets', 'nowhere'], '--sets nowhere: nowhere is not a folder'),
    (['--methods', 'one.yml', '--sets', 'alone', 'alone'], "--sets: two are called 'alone'"),
    (['--methods', 'one.yml', '--sets', 'nowhere', 'alone', 'gone'], 'or an option file; --sets gone: gone is not a'),
    (['--methods', 'one.yml', '--sets', 'one.yml'], '--sets one.yml: missing option: datasets'),
    (['--methods', 'none.yml', '--sets', 'alone'], '--methods: none.yml does not exist'),
    (['--methods', 'one.yml', '--sets', 'none.yml'], '--sets none.yml: none.yml does not exist'),
    (['--methods', 'one.yml', '--sets', 'alone:a set/LQ'], 'GT without LQ: man.png'),
    (['--methods', 'one.yml', '--sets', 'a set/GT:a set/GT'], 'wrong scale or wrong pair'),
    (['--methods', 'bicubic', '--sets', 'alone', '--scale', '1'], '--sets alone: at scale 1 a second folder is needed'),
    (['--methods', 'one.yml', '--sets', 'alone', '--tile', '8', '--overlap', '8'], '--overlap must be'),
    (['--methods', 'one.yml', '--sets', 'alone', '--repeats', '0'], '--repeats must be at least 1'),
    (['--methods', 'one.yml', '--sets', 'alone', '--input', '1', '8', '8'], '--input needs 3 H W'),
    (['--methods', 'one.yml', '--sets', 'alone', '--device', 'gpu'], '--device must be'),
    (['--methods', 'one.yml', '--sets', 'alone', '--metrics', 'pnsr_y'], "did you mean 'psnr_y'"),
])
def test_wrong_input_is_one_line_that_names_the_option(world, arguments, message):
    with pytest.raises(InputError) as error:
        compare.main(arguments)
    assert message in str(error.value) and '\n' not in str(error.value)


def test_with_self_ensemble_results_are_others_and_say_so(world, calls):
    run('--methods', 'one.yml', '--sets', 'alone')
    once = json.loads((world / 'out/results.json').read_text())
    run('--methods', 'one.yml', '--sets', 'alone', '--self-ensemble')
    assert calls == 2 * [('one', 'man')]
    found = json.loads((world / 'out/results.json').read_text())
    assert found['means'][0]['psnr_rgb'] != once['means'][0]['psnr_rgb'] and not once['self_ensemble']
    assert found['self_ensemble'] and 'mean over eight flips and turns' in (world / 'out/results.md').read_text()
    # The methods' images of both runs stay apart in the journal: neither is computed again.
    run('--methods', 'one.yml', '--sets', 'alone')
    assert len(calls) == 2
