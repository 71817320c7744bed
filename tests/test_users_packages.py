"""A user's own package: --import registers what it has, and what is wrong with it is one line."""
import os
import sys
from pathlib import Path

import pytest
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, MODEL_REGISTRY

from diffrwkvir_arch.cli import main

PACKAGE = '''
import torch
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, MODEL_REGISTRY


@ARCH_REGISTRY.register()
class OwnNet(torch.nn.Module):

    def __init__(self, scale, feats=4):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Conv2d(3, 3 * scale**2, 3, 1, 1), torch.nn.PixelShuffle(scale))

    def forward(self, x):
        return self.body(x)


@MODEL_REGISTRY.register()
class OwnModel(SRModel):
    pass


@DATASET_REGISTRY.register()
class OwnSet(torch.utils.data.Dataset):

    def __init__(self, opt):
        self.opt = opt

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return {'lq': torch.rand(3, 8, 8), 'gt': torch.rand(3, 16, 16), 'lq_path': f'{index}.png'}
'''


@pytest.fixture
def train(options, write_options, workdir, capfd, monkeypatch):
    """Trains OwnNet by an option file; returns the exit code and the last line on stderr."""
    monkeypatch.setattr(sys, 'path', list(sys.path))
    for registry in (ARCH_REGISTRY, DATASET_REGISTRY, MODEL_REGISTRY):
        monkeypatch.setattr(registry, '_obj_map', dict(registry._obj_map))
    for name in ('own_nets', 'broken_nets'):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (workdir / 'own_nets').mkdir()
    (workdir / 'own_nets' / '__init__.py').write_text(PACKAGE)
    (workdir / 'broken_nets.py').write_text('import own_nets\n1 / 0\n')
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
    options['val']['val_freq'] = 2
    assert train('--import', 'own_nets', model_type='RestorationModel')[0] == 0
    log, = Path('experiments/tiny').glob('train_*.log')
    assert '# psnr: ' in log.read_text()


@pytest.mark.parametrize('model_type, told', [
    ('OwnModel', "network OwnNet: got an unexpected keyword argument 'feast' (did you mean 'feats'?); it takes scale,"),
    ('SRModel', "unknown option 'network_g.feast' (did you mean 'feats'?) (OwnNet takes scale, feats)")])
def test_a_misspelt_option_of_a_users_network_is_one_line(train, model_type, told):
    code, line = train('--import', 'own_nets', model_type=model_type, feast=2)
    assert code == 2 and told in line


@pytest.mark.parametrize('name, told', [
    ('own_net', "--import own_net: ModuleNotFoundError: No module named 'own_net' (looked for in "),
    ('broken_nets', '--import broken_nets: ZeroDivisionError: division by zero')])
def test_a_package_that_cannot_be_imported_is_one_line(train, name, told):
    code, line = train('--import', 'own_nets', '--import', name)
    assert code == 2 and told in line and not os.path.exists('experiments')


def test_an_unknown_type_is_told_how_packages_come_in(train):
    code, line = train()
    assert code == 2 and line.startswith("basicsr: error: model_type: unknown model 'OwnModel'")
    assert line.endswith('; basicsr train --import PACKAGE adds those of your own')
