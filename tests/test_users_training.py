"""A user's own package in training: --import registers what it has, and what is wrong with it is one line."""
import os
from pathlib import Path

import pytest

from diffrwkvir_arch.cli import main

pytestmark = pytest.mark.usefixtures('packages')


@pytest.fixture
def train(options, write_options, capfd):
    """Trains OwnNet by an option file; returns the exit code and the last line on stderr."""
    options['train']['total_iter'] = 2

    def run(*flags, verb='train', model_type='OwnModel', **network):
        options.update(model_type=model_type, network_g={'type': 'OwnNet', 'scale': 2, **network})
        code = main([verb, '-opt', write_options(options), *flags])
        return code, capfd.readouterr().err.strip().splitlines()[-1]

    return run


def test_networks_and_models_of_a_users_package_train(train):
    assert train('--import', 'own_nets', feats=2)[0] == 0
    assert os.path.isfile('experiments/tiny/models/net_g_latest.pth')


def test_a_users_dataset_that_names_no_gt_folder_is_measured_with_its_gt(train, options):
    options['datasets']['val'] = {'name': 'own', 'type': 'OwnSet'}
    options['val'].update(val_freq=2, save_best='psnr')
    assert train('--import', 'own_nets', model_type='RestorationModel')[0] == 0
    log, = Path('experiments/tiny').glob('train_*.log')
    assert '# psnr: ' in log.read_text() and os.path.isfile('experiments/tiny/models/net_g_best.pth')


@pytest.mark.parametrize('model_type, told', [
    ('OwnModel', "unknown option 'OwnNet.feast' (did you mean 'feats'?); OwnNet takes scale, feats"),
    ('SRModel', "unknown option 'network_g.feast' (did you mean 'feats'?); network_g takes scale, feats")])
def test_a_misspelt_option_of_a_users_network_is_one_line(train, model_type, told):
    code, line = train('--import', 'own_nets', model_type=model_type, feast=2)
    assert code == 2 and told in line


def test_a_users_metric_that_takes_neither_gt_nor_better_is_measured_in_validation(train, options):
    options['val'].update(val_freq=2, metrics={'mine': {'type': 'calculate_blind', 'weight': 2.0, 'better': 'lower'}})
    assert train('--import', 'own_nets')[0] == 0
    log, = Path('experiments/tiny').glob('train_*.log')
    assert '# mine: 64.0000\tBest: 64.0000 @ 2 iter' in log.read_text()


@pytest.mark.parametrize('section, told', [
    ({'type': 'calculate_blind', 'wieght': 2}, "unknown option 'val.metrics.mine.wieght' (did you mean 'weight'?); "
     'val.metrics.mine takes '),
    ({'type': 'calculate_failing'}, 'missing option: val.metrics.mine.threshold')])
def test_a_users_metric_with_options_that_it_does_not_take_ends_no_training(train, options, section, told):
    options['val']['metrics'] = {'mine': section}
    code, line = train('--import', 'own_nets')
    assert code == 2 and told in line and not os.path.exists('experiments')


def test_a_users_loss_with_an_option_that_it_does_not_take_is_one_line(train, options):
    options['train']['pixel_opt'] = {'type': 'OwnLoss', 'wieght': 2}
    code, line = train('--import', 'own_nets')
    assert code == 2
    assert line == "basicsr: error: unknown option 'OwnLoss.wieght' (did you mean 'weight'?); OwnLoss takes weight"


@pytest.mark.parametrize('name, told', [
    ('own_net', "--import own_net: ModuleNotFoundError: No module named 'own_net' (looked for in "),
    ('broken_nets', '--import broken_nets: ZeroDivisionError: division by zero')])
def test_a_package_that_cannot_be_imported_is_one_line(train, name, told):
    code, line = train('--import', 'own_nets', '--import', name)
    assert code == 2 and told in line and not os.path.exists('experiments')


def test_an_unknown_type_is_told_how_packages_come_in(train):
    code, line = train()
    assert code == 2 and line.startswith("basicsr: error: model_type: unknown model 'OwnModel'")
    assert line.endswith('; --import PACKAGE adds those of your own')


def test_the_datasets_of_a_users_package_are_checked(options, write_options, capfd):
    del options['datasets']['train']
    options['datasets']['val']['type'] = 'OwnPairs'
    assert main(['prepare', '--import', 'own_nets', '--workers', '1', '--check', write_options(options)]) == 0
    assert 'datasets.val: 6 items, all can be used' in capfd.readouterr().out
