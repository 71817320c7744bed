"""The equal-budget study from end to end on tiny methods: equal patches, resumption, scores, failures, plans."""
import csv
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr.archs import build_network
from basicsr.utils import tensor2img
from diffrwkvir_arch.archs.tokens import enlarge
from diffrwkvir_arch.bicubic import imresize_once_rounded as bicubic
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.models.restoration_model import RestorationModel
from diffrwkvir_arch.toolbox.stopping import stop_request
from diffrwkvir_arch.tools.scores import read_image, score

sys.path.insert(0, str(Path(__file__).parents[1] / 'benchmarks'))

import ablations  # noqa: E402
import equal_budget  # noqa: E402
from study import command, methods, planning, sizes, training  # noqa: E402
from study.base_image import with_base_image  # noqa: E402
from study.patches import Patches, training_pairs  # noqa: E402

TINY = {
    'plain': methods.one_stage(dict(type='EDSR', num_in_ch=3, num_out_ch=3, num_feat=8, num_block=1, upscale=4)),
    'staged': methods.two_stages(
        'DiffRWKVIR', dict(scale=4, dim=16, groups=1, blocks=1, head_dim=4, prior_dim=16, encoder_dim=8,
                           upsampler='direct'), dict(steps=4), kd_weight=0.1),
}


def photograph(seed):
    """A smooth picture, (132, 136, 3) uint8."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return cv2.resize(coarse, (136, 132), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Calls equal_budget.main on TINY and on images drawn here, with results in tmp_path/NAME."""
    for folder, count in (('photographs', 3), ('held_out', 2)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            cv2.imwrite(str(tmp_path / folder / f'{number}.png'), photograph(count + number))
    monkeypatch.setattr(equal_budget, 'METHODS', dict(TINY))
    monkeypatch.setitem(command.PRESETS, 'cpu', command.Preset(2, 8, 2.))

    def call(name='out', *flags):
        flags = flags or ('--iterations', '4', '--seeds', '0', '--budgets', 'iterations')
        return equal_budget.main(['--data', str(tmp_path / 'photographs'), '--sets', f'ours={tmp_path / "held_out"}',
                                  '--any-size', '--no-base-image', '--stage1-share', '0.6', '--out',
                                  str(tmp_path / name), *flags])

    call.folder = tmp_path
    return call


def results(folder):
    """Name of a run without its digest -> its result."""
    return {file.parent.name.rpartition('_')[0]: json.loads(file.read_text())
            for file in (folder / 'runs').glob('*/result.json')}


def table(path):
    return list(csv.DictReader(path.open()))


def test_all_methods_of_a_seed_are_fed_the_same_batches_and_each_seed_others(study, monkeypatch):
    fed, feed_data = [], RestorationModel.feed_data

    def recorded(model, data):
        if 'gt' in data:
            fed.append((data['lq'].numpy().tobytes(), data['gt'].numpy().tobytes()))
        feed_data(model, data)

    monkeypatch.setattr(RestorationModel, 'feed_data', recorded)
    study('out', '--iterations', '4', '--seeds', '0', '1', '--budgets', 'iterations')
    runs = np.array([hash(batch) for batch in fed[-16:]]).reshape(4, 4)     # after those that only timed
    assert (runs[0] == runs[1]).all() and (runs[2] == runs[3]).all()        # seed 0: plain, staged; seed 1 likewise
    assert len(set(runs[0]) | set(runs[2])) == 8
    found = results(study.folder / 'out')
    assert found['plain_iterations_seed0']['fed'] == found['staged_iterations_seed0']['fed']
    assert found['plain_iterations_seed0']['fed'] != found['plain_iterations_seed1']['fed']
    assert found['staged_iterations_seed0']['iterations'] == [2, 2]


@pytest.mark.parametrize('stopped_at', [1, 2, 3])
def test_an_interrupted_run_ends_like_an_uninterrupted_one(study, monkeypatch, stopped_at):
    study('whole')
    # Iteration 2 ends the first of two stages.
    with monkeypatch.context() as patch:
        save = training.checksum

        def signal_after(batch, before, calls=[]):
            calls.append(1)
            if len(calls) == 4 + stopped_at:    # the second method's
                stop_request.requested_at = 0.
            return save(batch, before)

        patch.setattr(training, 'checksum', signal_after)
        assert study('broken') == 1
    assert set(results(study.folder / 'broken')) == {'plain_iterations_seed0'}
    assert study('broken') == 0
    whole, broken = (results(study.folder / name)['staged_iterations_seed0'] for name in ('whole', 'broken'))
    for result in (whole, broken):
        result.pop('seconds')
        for point in result['curve']:
            point.pop('seconds')
    assert broken == whole


def test_finished_runs_are_not_trained_again(study, monkeypatch):
    study()
    monkeypatch.setattr(training, 'step', None)
    assert study() == 0


def test_the_table_says_what_the_scores_module_says_of_the_saved_weights(study):
    study()
    gt = {path.stem: read_image(path) for path in (study.folder / 'held_out').iterdir()}
    net = training.build(training.Job(TINY['plain'], [training.Iterations(4)], 0, 1e-3, study.folder),
                         0, torch.device('cpu')).net_g
    net.load_state_dict(torch.load(next((study.folder / 'out/runs').glob('plain*')) / 'stage1.pth')['params'])
    rows = {(row['method'], row['image']): row for row in table(study.folder / 'out/scores.csv')}
    psnr = []
    for name, image in gt.items():
        lq = torch.from_numpy(bicubic(image, 1 / 4)[..., ::-1].transpose(2, 0, 1)[None] / np.float32(255))
        expected = score(tensor2img([net(lq).detach()]), image, 4)
        assert float(rows['plain', name]['psnr_y']) == pytest.approx(expected['psnr_y'], abs=1e-4)
        assert float(rows['plain', name]['ssim_y']) == pytest.approx(expected['ssim_y'], abs=1e-4)
        psnr.append(expected['psnr_y'])
    report = (study.folder / 'out/report.md').read_text()
    line, = [line.split('|') for line in report.splitlines() if line.startswith('| plain')]
    assert f'{sum(psnr) / 2:.2f}' in [cell.strip() for cell in line]
    assert table(study.folder / 'out/curves.csv')[3]['psnr_y'] == f'{sum(psnr) / 2:.4f}'
    floor, = [line.split('|') for line in report.splitlines() if line.startswith('| bicubic')]
    expected = [score(bicubic(bicubic(image, 1 / 4), 4), image, 4)['psnr_y'] for image in gt.values()]
    assert f'{sum(expected) / 2:.2f}' in [cell.strip() for cell in floor]


def test_a_method_that_fails_is_reported_and_the_others_go_on(study, monkeypatch):
    broken = methods.one_stage(dict(type='EDSR', num_in_ch=3, num_out_ch=3, num_feat=8, num_block=1, upscale=2))
    absent = methods.one_stage(dict(type='NoSuchNetwork'))
    monkeypatch.setattr(equal_budget, 'METHODS', {'broken': broken, 'absent': absent, **TINY})
    assert study() == 1
    report = (study.folder / 'out/report.md').read_text()
    assert '- broken: ' in report and "- absent: unknown arch 'NoSuchNetwork'" in report
    assert '| plain' in report and '| staged' in report and '| broken' not in report
    assert 'Traceback' in (study.folder / 'out/failures.log').read_text()


def test_under_equal_time_a_stage_ends_with_the_step_that_fills_its_part(study, monkeypatch):
    def eighth_of_a_second(call, device):
        call()
        return 125.

    monkeypatch.setattr(training, 'milliseconds', eighth_of_a_second)
    monkeypatch.setattr(planning, 'milliseconds', eighth_of_a_second)
    study('out', '--iterations', '8', '--seeds', '0', '--budgets', 'time')
    assert json.loads((study.folder / 'out/plan.json').read_text())['seconds'] == pytest.approx(1.)
    found = results(study.folder / 'out')
    assert found['plain_time_seed0']['seconds'] == [1.]
    assert found['staged_time_seed0']['seconds'] == [0.625, 0.5]    # 60 % and 40 % of one second


def test_the_learning_rate_reaches_its_end_with_the_budget(study, monkeypatch):
    rates, step = [], training.step

    def recorded(model, batch, iteration, total):
        step(model, batch, iteration, total)
        rates.append((iteration, total, model.get_current_learning_rate()[0]))

    monkeypatch.setattr(training, 'step', recorded)
    study('out', '--iterations', '40', '--methods', 'plain', '--seeds', '0', '--budgets', 'iterations', 'time')
    last_of_iterations, last_of_time = rates[39], rates[-1]
    for iteration, total, rate in (last_of_iterations, last_of_time):
        assert iteration <= total
        assert rate == pytest.approx(1e-5 + (1e-3 - 1e-5) * (1 + np.cos(np.pi * (iteration - 1) / total)) / 2)
    assert last_of_iterations[1] == 40


def test_the_iterations_of_a_study_fill_its_hours():
    timings = {'fast': {'steps': [0.1], 'scoring': 5.}, 'slow': {'steps': [0.2, 0.4], 'scoring': 10.}}

    class Wanted:
        iterations, hours, stage1_share, seeds, budgets = None, 1., 0.5, [0, 1], ['iterations', 'time']

    plan = planning.settle(timings, Wanted)
    runs = [planning.expected_seconds(budget, plan, timing, 0.5) for budget in Wanted.budgets
            for timing in timings.values() for _ in Wanted.seeds]
    assert 0.89 * 3600 < sum(runs) <= 0.9 * 3600
    Wanted.hours = 0.01
    with pytest.raises(InputError, match='give more hours'):
        planning.settle(timings, Wanted)


@pytest.mark.parametrize('script', [equal_budget, ablations])
def test_help_names_every_method(script, capsys):
    with pytest.raises(SystemExit) as ended:
        script.main(['-h'])
    text = ''.join(capsys.readouterr().out.split())     # names are broken at hyphens
    assert ended.value.code == 0
    assert all(name in text for name in getattr(script, 'METHODS', None) or script.VARIANTS)


def test_the_gpu_scale_is_refused_where_there_is_no_gpu(study, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(InputError, match='needs a CUDA device'):
        study('out', '--scale', 'gpu')


def test_a_plan_is_kept_for_more_seeds_and_refused_for_other_options(study):
    study()
    before = json.loads((study.folder / 'out/plan.json').read_text())
    study('out', '--iterations', '4', '--seeds', '0', '1', '--budgets', 'iterations')
    assert json.loads((study.folder / 'out/plan.json').read_text()) == before
    with pytest.raises(InputError, match='iterations was 4, now 6'):
        study('out', '--iterations', '6', '--seeds', '0', '--budgets', 'iterations')


def test_a_report_of_what_is_finished_trains_nothing(study):
    with pytest.raises(InputError, match='--report-only: there is no plan.json'):
        study('out', '--iterations', '4', '--report-only')
    study()
    before = results(study.folder / 'out')
    both = '--iterations', '4', '--seeds', '0', '1', '--budgets', 'iterations', '--report-only'
    assert study('out', *both) == 0
    assert results(study.folder / 'out') == before
    report = (study.folder / 'out/report.md').read_text(encoding='utf-8')
    assert 'Runs that are not finished: 2.' in report and '| staged ' in report


def test_methods_of_unequal_size_are_refused():
    costs = {'a': {'parameters': 100}, 'b': {'parameters': 110}, 'c': {'parameters': 900}}
    sizes.refuse_unequal(costs, ['c'], 0.25)
    with pytest.raises(InputError, match='c 0.001 M'):
        sizes.refuse_unequal(costs, [], 0.25)


def test_the_shipped_methods_are_of_one_size():
    pytest.importorskip('spandrel')
    costs = {name: {'parameters': sizes.measure(stages)['parameters']} for name, stages in methods.METHODS.items()}
    sizes.refuse_unequal(costs, methods.LARGER, methods.TOLERANCE)


def test_networks_without_a_base_image_get_one_unless_told_otherwise(study):
    study('out', '--base-image', '--iterations', '2', '--seeds', '0', '--budgets', 'iterations')
    assert set(results(study.folder / 'out')) == {'plain+base_iterations_seed0', 'staged_iterations_seed0'}


def test_a_network_on_a_base_image_starts_from_bicubic_enlargement_where_it_predicts_nothing():
    stages, = with_base_image({'SwinIR': methods.METHODS['SwinIR']})['SwinIR+base']
    net = build_network(stages['network_g']).eval()
    for parameter in net.parameters():
        parameter.data.zero_()
    lq = torch.rand(1, 3, 10, 13)
    assert torch.allclose(net(lq), enlarge(lq, 4), atol=1e-6)


@pytest.mark.parametrize('values, default, expected', [
    ({0: 30.1, 1: 30.2}, {1: 29.1, 0: 29.1}, '+1.05 (+1.00..+1.10)'), ({0: 30.}, {0: 29., 1: 28.}, '+1.00 ?'),
    ({0: 30.0, 1: 30.3}, {0: 30.2, 1: 30.2}, '-0.05 (-0.20..+0.10) ≈'), ({0: 30.}, {1: 29.}, '')])
def test_differences_are_of_equal_seeds_and_marked_where_their_sign_depends_on_the_seed(values, default, expected):
    assert ablations.difference(values, default) == expected


def test_each_ablation_changes_one_switch_of_a_network_that_builds():
    default = ablations.VARIANTS[ablations.DEFAULT]
    for name, stages in ablations.VARIANTS.items():
        network = build_network(stages[-1]['network_g'])
        if name == 'prior-off':
            restorer = {key: value.shape for key, value in network.restorer.state_dict().items()}
            with_prior = build_network(default[1]['network_g']).restorer.state_dict()
            assert len(stages) == 1 and restorer == {key: value.shape for key, value in with_prior.items()}
            continue
        changed = [key for key, value in stages[1]['network_g'].items() if default[1]['network_g'].get(key) != value]
        assert len(changed) == (name != ablations.DEFAULT), name


def test_gt_and_lq_patches_show_the_same_place_and_depend_on_seed_and_iteration_alone():
    lq = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    gt = lq.repeat(4, 0).repeat(4, 1)
    patches = Patches([(gt, lq)], 6, 8, 4)
    batch = patches.draw(3, 5)
    assert torch.equal(batch['gt'][..., ::4, ::4], batch['lq']) and batch['lq'].shape == (6, 3, 8, 8)
    patches.draw(0, 1)
    assert torch.equal(patches.draw(3, 5)['lq'], batch['lq'])
    assert not torch.equal(patches.draw(3, 6)['lq'], batch['lq'])


def test_test_sets_within_the_training_photographs_are_refused(study):
    dataset = {'name': 'real', 'type': 'DegradationDataset', 'dataroot_gt': str(study.folder / 'photographs'),
               'degradation': {'type': 'real_esrgan'}}
    (study.folder / 'leak.yml').write_text(yaml.safe_dump({'scale': 4, 'datasets': {'test': dataset}}))
    for sets in (f'ours={study.folder / "photographs"}', str(study.folder / 'leak.yml')):
        with pytest.raises(InputError, match='holds the test set .*photographs; give the folder of the training'):
            study('out', '--sets', sets)


def test_a_study_of_degraded_photographs_trains_and_tests_on_them(study):
    dataset = {'name': 'real', 'type': 'DegradationDataset', 'dataroot_gt': str(study.folder / 'held_out'),
               'degradation': {'type': 'real_esrgan'}, 'seed': 3}
    (study.folder / 'real.yml').write_text(yaml.safe_dump({'scale': 4, 'datasets': {'test': dataset}}))
    flags = ('--iterations', '4', '--seeds', '0', '--budgets', 'iterations', '--degradation', 'real_esrgan', '--sets',
             str(study.folder / 'real.yml'))
    assert study('out', *flags) == 0 and study('again', *flags) == 0
    assert 'LQs by real_esrgan' in (study.folder / 'out/report.md').read_text()
    first, again = (training_pairs(study.folder / 'photographs', study.folder / name / 'train', 4, 'real_esrgan')
                    for name in ('out', 'again'))
    assert all(np.array_equal(one, other) for pair, twin in zip(first, again) for one, other in zip(pair, twin))
    assert all(not np.array_equal(lq, bicubic(gt, 1 / 4)) for gt, lq in first)
    scores = {row['set'] for row in table(study.folder / 'out/scores.csv')}
    assert scores == {'real'}
    with pytest.raises(InputError, match=r'holds pairs of .*photographs \(real_esrgan\), not of .*photographs;'):
        study('out')


@pytest.mark.parametrize('flags, message', [
    (('--hours', '0'), '--hours must be above 0, got 0'), (('--threads', '0'), '--threads must be at least 1, got 0'),
    (('--seeds', '0', '0'), '--seeds: one comes twice in 0 0')])
def test_numbers_that_mean_nothing_are_refused(study, flags, message):
    with pytest.raises(InputError, match=message):
        study('out', *flags)
