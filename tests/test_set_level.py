"""FID and KID in training, `basicsr test` and `basicsr compare`; a mean colour stands in for Inception's features."""
import csv
import json
import re
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from basicsr.metrics import calculate_metric
from compare_cases import EDSR, build, write_method

from diffrwkvir_arch import cli
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.metrics import set_metrics
from diffrwkvir_arch.metrics.inception_metric import SetScores
from diffrwkvir_arch.metrics.set_metrics import InceptionDistances
from diffrwkvir_arch.tools import compare
from diffrwkvir_arch.tools.comparison import contest, plots

BOTH = {'fid': {'type': 'calculate_fid'}, 'kid': {'type': 'calculate_kid', 'better': 'lower'}}
SCORE = re.compile(r'# (\w+): (\S+)  N = (\d+)\tBest: (\S+) @ (\S+) iter')

pytestmark = pytest.mark.filterwarnings('ignore:FID of')


@pytest.fixture
def inception(monkeypatch):
    """The stand-in; -> the shapes of the batches that it saw."""
    seen, network = [], torch.nn.Module()

    def features(images):
        seen.append(tuple(images.shape))
        return images.float().mean(dim=(2, 3)) / 255 * torch.tensor([1., 2., 3.]),

    network.forward = features
    monkeypatch.setattr(set_metrics, 'build_inception', lambda weights=None: network)
    return seen


@pytest.fixture
def tiny(options):
    """An option file of RestorationModel that measures PSNR, FID and KID."""
    options['model_type'] = 'RestorationModel'
    options['val']['metrics'] |= BOTH
    return options


def log_of(pattern):
    path, = Path().glob(pattern)
    return path.read_text(encoding='utf-8')


def scores_of_files(restored, gts):
    """What the set-level API finds on images in files, pair by pair."""
    distances = InceptionDistances()
    for pair in zip(restored, gts, strict=True):
        distances.update(*(cv2.imread(str(path)) for path in pair))
    return distances.compute()


def test_a_tested_set_gets_the_scores_of_its_saved_images_and_one_without_gt_none(tiny, image_folders, write_options,
                                                                                  inception):
    torch.save({'params': build(EDSR, 0).state_dict()}, 'net.pth')
    tiny['path']['pretrain_network_g'] = 'net.pth'
    own = {'name': 'own', 'type': 'SingleImageDataset', 'dataroot_lq': str(image_folders[1]),
           'io_backend': {'type': 'disk'}}
    tiny['datasets'] = {'test_1': own, 'test_2': tiny['datasets']['val'], 'test_3': {**own, 'name': 'more'}}
    tiny['val'] = {'save_img': True, 'suffix': None,
                   'metrics': {'niqe': {'type': 'calculate_niqe', 'crop_border': 0}, **tiny['val']['metrics']}}
    del tiny['train']
    assert cli.main(['test', '-opt', write_options(tiny)]) == 0
    own_log, log, more_log = log_of('results/tiny/test_*.log').split('Testing ')[1:]
    # Both scores of one look at each image.
    assert inception == [(2, 3, 32, 40)] * 6
    found = {name: (float(value), int(count)) for name, value, count, *_ in SCORE.findall(log)}
    expected = scores_of_files(sorted(Path('results/tiny/visualization/some').iterdir()),
                               sorted(image_folders[0].iterdir()))
    assert found == {name: (pytest.approx(expected[name], abs=1e-6), 6) for name in ('fid', 'kid')}
    assert expected['fid'] > 1e-3 and '# psnr: ' in log and '# niqe: ' in log
    for text in (own_log, more_log):
        assert '# niqe: ' in text and not re.search('fid|kid|psnr', text)


def test_a_training_tracks_the_lowest_and_shows_it_in_tensorboard(tiny, write_options, inception, monkeypatch):
    accumulator = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    found = iter([{'fid': fid, 'kid': 0.00123} for fid in (5., 3., 4., 4.)])
    monkeypatch.setattr(InceptionDistances, 'compute', lambda self: next(found))
    # No metric of single images beside them.
    tiny['val'] = {'val_freq': 2, 'save_img': False, 'metrics': BOTH}
    tiny['logger']['use_tb_logger'] = True
    tiny['logger']['save_checkpoint_freq'] = 6
    assert cli.main(['train', '-opt', write_options(tiny)]) == 0
    # The last weights are validated once more.
    lines = SCORE.findall(log_of('experiments/tiny/train_*.log'))
    assert lines[1] == ('kid', '0.001230', '6', '0.001230', '2')
    assert [(float(value), float(best), int(at)) for name, value, _, best, at in lines if name == 'fid'] == [
        (5, 5, 2), (3, 3, 4), (4, 3, 4), (4, 3, 4)]
    # Saved before the validation of its iteration.
    state = torch.load('experiments/tiny/training_states/6.state', weights_only=False)
    assert state['best_metric_results']['some']['fid'] == {'better': 'lower', 'val': 3., 'iter': 4}
    events, = map(str, Path('tb_logger').iterdir())
    events = accumulator.EventAccumulator(events).Reload()
    assert [(event.step, event.value) for event in events.Scalars('metrics/some/fid')][:3] == [(2, 5), (4, 3), (6, 4)]


@pytest.mark.parametrize('metric, message', [
    ({'type': 'calculate_fid'}, 'val.metrics.m: {hub}/weights-inception-2015-12-05-6726825d.pth is missing: download'),
    ({'type': 'calculate_kid', 'weights': 'mine.pth'}, 'val.metrics.m: mine.pth is missing: download'),
    ({'type': 'calculate_kid', 'wieghts': 'mine.pth'}, "option 'val.metrics.m.wieghts' (did you mean 'weights'?)"),
    ({'type': 'calculate_fid', 'device': 'gpu'}, 'val.metrics.m.device must be auto, cpu, cuda or cuda:N, got gpu'),
    ({'type': 'calculate_fid', 'better': 'higher'}, 'val.metrics.m.better: lower is better for calculate_fid'),
])
def test_what_it_lacks_is_told_before_anything_is_written(options, write_options, workdir, monkeypatch, capsys, metric,
                                                          message):
    monkeypatch.setenv('TORCH_HOME', str(workdir / 'home'))
    monkeypatch.setitem(sys.modules, 'torch_fidelity', SimpleNamespace(FeatureExtractorInceptionV3=None))
    options.update(model_type='RestorationModel', val={'val_freq': 2, 'metrics': {'m': metric}})
    assert cli.main(['train', '-opt', write_options(options)]) == 2
    assert message.format(hub=workdir / 'home/hub/checkpoints') in capsys.readouterr().err
    assert not Path('experiments').exists()


def test_without_torch_fidelity_a_training_does_not_begin(tiny, write_options, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'torch_fidelity', None)
    assert cli.main(['train', '-opt', write_options(tiny)]) == 2
    assert "val.metrics.fid: FID and KID need torch-fidelity: pip install 'diffrwkvir[metrics]'" in (
        capsys.readouterr().err)


def test_a_model_that_measures_image_by_image_is_refused():
    image = np.zeros((8, 8, 3), np.uint8)
    for options in BOTH.values():
        with pytest.raises(InputError, match=f'{options["type"]} measures a set as a whole.*RestorationModel'):
            calculate_metric({'img': image, 'img2': image}, options)


def test_before_a_training_by_such_a_model_too(options, write_options, inception, capsys):
    options.update(model_type='SRModel', val={'val_freq': 2, 'metrics': BOTH})
    assert cli.main(['train', '-opt', write_options(options)]) == 2
    assert 'val.metrics.fid: calculate_fid measures a set as a whole, SRModel measures' in capsys.readouterr().err


def test_a_set_of_one_image_is_nan_and_ends_nothing(inception):
    scores = SetScores(BOTH)
    scores.update(*np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.warns(UserWarning, match='fid, kid need at least two images.* got 1'):
        assert np.isnan(list(scores.compute().values())).all()


@pytest.fixture
def duel(workdir, image_folders, monkeypatch):
    """Two methods of scale 2, first.yml and second.yml; -> what was restored."""
    for seed, name in enumerate(('first', 'second')):
        write_method(workdir, name, EDSR, seed=seed)
    seen, measure = [], contest.Contestant.measure
    monkeypatch.setattr(contest.Contestant, 'measure',
                        lambda self, sample: seen.append((self.method.label, sample.name)) or measure(self, sample))
    monkeypatch.setattr(compare, 'write_plots', lambda *_: [])
    return seen


def run(*metrics, sets='set=../gt:../lq'):
    arguments = ['--metrics', *metrics] if metrics else []
    return compare.main(['--methods', 'first.yml', 'second.yml', '--sets', sets, '-o', 'out', '--crops', '1',
                         *arguments])


def means():
    return {mean['method']: mean for mean in json.loads(Path('out/results.json').read_text('utf-8'))['means']}


def test_compare_scores_a_set_as_a_whole_and_goes_on_where_it_stopped(duel, inception, image_folders, capsys,
                                                                      monkeypatch):
    # An earlier run keeps one image of each method, that of the contact sheet.
    assert run('psnr_y') == 0 and inception == []
    duel.clear()
    assert run('psnr_y', 'fid', 'kid') == 0
    assert len(duel) == 2 * 5 and len(inception) == 2 * 6
    found = means()
    for method in ('first', 'second'):
        expected = scores_of_files(sorted(Path('out/restored/set', method).iterdir()),
                                   sorted(image_folders[0].iterdir()))
        assert {name: found[method][name] for name in BOTH} == {name: pytest.approx(expected[name]) for name in BOTH}
        assert found[method]['images'] == 6
    text = Path('out/results.md').read_text('utf-8')
    assert '| Method | set PSNR-Y ↑ | set FID ↓ | set KID ↓ |' in text and text in capsys.readouterr().out
    assert '- fid, kid: of the set as a whole, N = 6 images; below 2048 FID is biased upwards' in text
    with open('out/results.csv', encoding='utf-8') as file:
        assert 'fid' not in next(csv.DictReader(file))
    # Nothing to be done again, whichever images are there; what is gone is restored.
    duel.clear(), inception.clear()
    Path('out/restored/set/second/03.png').unlink()
    monkeypatch.setattr(compare, 'write_plots', plots.write_plots)
    assert run('psnr_y', 'fid', 'kid') == 0
    assert duel == [('second', '03')] and inception == [] and means() == {
        method: {**mean, 'ms': pytest.approx(mean['ms'], rel=100)} for method, mean in found.items()}
    # Other weights make another set of images.
    write_method(Path(), 'first', EDSR, seed=7)
    assert run('fid') == 0
    assert len(inception) == 6 and means()['first']['fid'] != found['first']['fid']


def test_compare_shows_a_dash_for_a_set_without_gt(duel, inception, image_folders, capsys):
    Path('own.yml').write_text(f'scale: 2\ndatasets: {{test_1: {{name: own, type: SingleImageDataset, dataroot_lq: '
                               f'{image_folders[1]}}}}}\n', encoding='utf-8')
    assert run('psnr_y', 'fid', sets='own.yml') == 0
    assert '| first | – | – |' in capsys.readouterr().out and means()['first']['fid'] is None


def test_compare_goes_on_without_torch_fidelity(duel, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'torch_fidelity', None)
    assert run('psnr_y', 'fid') == 0
    assert "fid left out: FID and KID need torch-fidelity: pip install 'diffrwkvir[metrics]'" in capsys.readouterr().out
    assert 'fid' not in means()['first']


def test_compare_measures_sets_as_a_whole_only_where_asked(duel, inception):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert run() == 0
    assert inception == [] and 'psnr_y' in means()['first'] and 'fid' not in means()['first']
