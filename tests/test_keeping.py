"""Which checkpoints of a run stay: the newest ones, and the best one."""
import math
import os
import re

import pytest
import torch
from basicsr.models import build_model

from diffrwkvir_arch.cli import main
from diffrwkvir_arch.models.restoration_model import RestorationModel
from diffrwkvir_arch.toolbox.checkpoints import read_checkpoint

NAMES = 'experiments/tiny/models', 'experiments/tiny/training_states'


@pytest.fixture
def opt(options):
    options['model_type'] = 'RestorationModel'
    options['train']['total_iter'] = 8
    options['logger']['save_checkpoint_freq'] = 2
    options['val'] |= {'val_freq': 2}
    return options


def saved():
    return [sorted(os.listdir(folder)) for folder in NAMES]


def test_only_the_last_checkpoints_stay_and_a_run_goes_on_from_them(opt, write_options, workdir):
    opt['logger']['keep_last'] = 2
    assert main(['train', '-opt', write_options(opt)]) == 0
    assert saved() == [['net_g_6.pth', 'net_g_8.pth', 'net_g_latest.pth'], ['6.state', '8.state']]
    opt['train']['total_iter'] = 10
    assert main(['train', '-opt', write_options(opt), '--auto_resume']) == 0
    assert saved() == [['net_g_10.pth', 'net_g_8.pth', 'net_g_latest.pth'], ['10.state', '8.state']]


def test_without_a_word_all_stay(opt, write_options, workdir):
    assert main(['train', '-opt', write_options(opt)]) == 0
    assert saved()[1] == ['2.state', '4.state', '6.state', '8.state']


@pytest.mark.parametrize('value', [0, 1.5, 'two', True])
def test_how_many_stay_is_a_whole_number(opt, write_options, workdir, capsys, value):
    opt['logger']['keep_last'] = value
    assert main(['train', '-opt', write_options(opt)]) == 2
    assert 'logger.keep_last must be a whole number of at least 1' in capsys.readouterr().err


@pytest.fixture
def scored(monkeypatch):
    """Lets validations find these PSNRs one after the other; -> the weights that each of them has seen."""
    seen, scores = [], iter((20., 22., 21., 22.5, 19., 22.))

    def measure(data, opt):
        return score

    def test(self):
        nonlocal score
        if not measured:
            score = next(scores)
            seen.append({name: value.clone() for name, value in self.net_g_ema.state_dict().items()})
        measured.append(1)
        original(self)

    score, measured, original = None, [], RestorationModel.test
    monkeypatch.setattr(RestorationModel, 'test', test)
    monkeypatch.setattr('basicsr.models.sr_model.calculate_metric', measure)
    validate = RestorationModel.nondist_validation

    def validation(self, loader, *arguments):
        measured.clear()
        validate(self, loader, *arguments)

    monkeypatch.setattr(RestorationModel, 'nondist_validation', validation)
    return seen


def test_the_best_network_is_kept_beside_the_others(opt, write_options, workdir, scored):
    opt['val']['save_best'] = 'psnr'
    assert main(['train', '-opt', write_options(opt)]) == 0
    # 2, 4, 6, 8 iterations, and once more at the end.
    assert len(scored) == 5
    best = read_checkpoint(f'{NAMES[0]}/net_g_best.pth')
    assert all(torch.equal(best['params_ema'][name], value) for name, value in scored[3].items())
    assert best.pop('best') == {'dataset': 'some', 'metric': 'psnr', 'val': 22.5, 'iter': 8}
    assert best.keys() == read_checkpoint(f'{NAMES[0]}/net_g_latest.pth').keys()
    log, = [name for name in os.listdir('experiments/tiny') if re.fullmatch(r'train_.*\.log', name)]
    assert 'Best: 22.5000 @ 8 iter' in open(f'experiments/tiny/{log}', encoding='utf-8').read()


def test_a_resumed_run_remembers_how_good_the_best_was(opt, write_options, workdir, scored):
    opt['val']['save_best'] = 'psnr'
    assert main(['train', '-opt', write_options(opt)]) == 0    # to 22.5, then 19
    opt['train']['total_iter'], opt['val']['val_freq'] = 9, 100
    assert main(['train', '-opt', write_options(opt), '--auto_resume']) == 0    # 22
    assert len(scored) == 6
    best = read_checkpoint(f'{NAMES[0]}/net_g_best.pth')
    assert all(torch.equal(best['params_ema'][name], value) for name, value in scored[3].items())


@pytest.mark.parametrize('better, scores, kept', [
    ('higher', [20., 20., math.nan, 19., 21.], [1, 1, 1, 1, 5]),
    ('lower', [20., 20., math.nan, 21., 19.], [1, 1, 1, 1, 5]),
    ('higher', [math.nan, math.nan, 20.], [1, 1, 3])])
def test_of_equal_scores_the_first_stays_and_what_is_no_number_is_never_better(opt, tmp_path, better, scores, kept):
    opt['path']['models'] = str(tmp_path)
    model = build_model({**opt, 'is_train': True, 'dist': False})
    model.best_metric_results = {'some': {'psnr': {'better': better}}}
    found = []
    for iteration, score in enumerate(scores, start=1):
        model.metric_results = {'psnr': score}
        model.save_if_best('some', 'psnr', iteration)
        found.append(read_checkpoint(str(tmp_path / 'net_g_best.pth'))['best']['iter'])
    assert found == kept


@pytest.mark.parametrize('metric, told', [('ssim', "one of psnr, got 'ssim'"), (True, 'one of psnr, got True')])
def test_the_best_by_what_nobody_measures_is_refused(opt, write_options, workdir, capsys, metric, told):
    opt['val']['save_best'] = metric
    assert main(['train', '-opt', write_options(opt)]) == 2
    assert f'val.save_best must be a metric of the first validation set, {told}' in capsys.readouterr().err
    assert not (workdir / 'experiments').exists()


def test_a_set_without_gt_has_no_psnr_to_be_best_by(opt, write_options, workdir, capsys, image_folders):
    opt['datasets']['val'] = {'name': 'own', 'type': 'SingleImageDataset', 'dataroot_lq': str(image_folders[1]),
                              'io_backend': {'type': 'disk'}}
    opt['val']['save_best'] = 'psnr'
    assert main(['train', '-opt', write_options(opt)]) == 2
    assert "one of none, got 'psnr'" in capsys.readouterr().err
