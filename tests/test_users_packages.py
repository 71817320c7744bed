"""A user's own package: --import registers what it has, and what is wrong with it is one line."""
import csv
import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY
from diffrwkvir_arch.archs.diffrwkvir_s2_arch import DiffRWKVIRS2
from diffrwkvir_arch.archs.mixers import MIXERS
from diffrwkvir_arch.cli import main
from diffrwkvir_arch.tools.comparison.users_code import code_of, parts_of
from diffrwkvir_arch.tools.networks import Recipe

PACKAGE = '''
import torch
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY
from own_helper import measure


@LOSS_REGISTRY.register()
class OwnLoss(torch.nn.L1Loss):

    def __init__(self, weight=1.0):
        super().__init__()


@METRIC_REGISTRY.register()
def calculate_own(img, img2, crop_border):
    return measure(img, img2, crop_border)


@METRIC_REGISTRY.register()
def calculate_blind(img, weight=1.0):
    return weight * len(img)


@METRIC_REGISTRY.register()
def calculate_failing(img, img2, threshold):
    return 1.0


@ARCH_REGISTRY.register()
class OwnNet(torch.nn.Module):

    def __init__(self, scale=2, feats=4):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Conv2d(3, 3 * scale**2, 3, 1, 1), torch.nn.PixelShuffle(scale))

    def forward(self, x):
        return self.body(x)


@ARCH_REGISTRY.register()
class Twofold(OwnNet):

    def forward(self, x):
        return self.body(x), x


@ARCH_REGISTRY.register()
class Doubling(torch.nn.Module):

    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Conv2d(3, 12, 3, 1, 1), torch.nn.PixelShuffle(2))

    def forward(self, x):
        return self.body(x)


@ARCH_REGISTRY.register()
class Needy(OwnNet):

    def forward(self, x, text):
        return self.body(x)


@ARCH_REGISTRY.register()
class Raising(OwnNet):

    def forward(self, x):
        return {}['body'](x)


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


@DATASET_REGISTRY.register()
class OwnPairs(PairedImageDataset):
    pass


class Items:
    paths = ['a.png']

    def __init__(self, opt):
        pass

    def __len__(self):
        return 1


@DATASET_REGISTRY.register()
class RaisingItems(Items):

    def __getitem__(self, index):
        return [][index]


@DATASET_REGISTRY.register()
class TwoChannelItems(Items):

    def __getitem__(self, index):
        return {'lq': torch.rand(2, 8, 8)}


@DATASET_REGISTRY.register()
class NumberedItems(Items):
    paths = [1]


@DATASET_REGISTRY.register()
class NeedyItems(Items):

    def __init__(self, opt):
        opt['folder']
'''

HELPER = '''
def measure(img, img2, crop_border):
    return 100 * len(img) + crop_border
'''
REGISTRIES = ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY


@pytest.fixture(autouse=True)
def packages(workdir, monkeypatch):
    """own_nets and broken_nets in the current directory, unknown to Python and the registries; returns the folder."""
    monkeypatch.setattr(sys, 'path', list(sys.path))
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, '_obj_map', dict(registry._obj_map))
    for name in ('own_nets', 'own_helper', 'broken_nets'):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (workdir / 'own_nets').mkdir()
    (workdir / 'own_nets' / '__init__.py').write_text(PACKAGE)
    (workdir / 'own_helper.py').write_text(HELPER)
    (workdir / 'broken_nets.py').write_text('import own_nets\n1 / 0\n')
    return workdir


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


@pytest.fixture
def method(packages):
    """Writes NAME.yml of a network that is a convolution, and its weights NAME.pth; returns NAME.yml."""

    def write(name, network='OwnNet', entry='params'):
        torch.manual_seed(0)
        convolution = torch.nn.Conv2d(3, 12, 3, 1, 1)
        torch.save({entry: {f'body.0.{key}': value for key, value in convolution.state_dict().items()}}, f'{name}.pth')
        options = {'scale': 2, 'network_g': {'type': network, 'scale': 2},
                   'path': {'pretrain_network_g': f'{name}.pth'}}
        (packages / f'{name}.yml').write_text(yaml.safe_dump(options))
        return f'{name}.yml'

    return write


@pytest.fixture
def picture(packages):
    """photos/a.png, 16x20; returns it as BGR."""
    image = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    (packages / 'photos').mkdir()
    cv2.imwrite('photos/a.png', image)
    return image


def compare(*arguments):
    return main(['compare', '--import', 'own_nets', '--sets', 'photos', '-o', 'out', '--metrics', 'psnr_rgb',
                 '--methods', *arguments])


def first_result():
    with open('out/results.json', encoding='utf-8') as file:
        return json.load(file)['images'][0]


def test_a_users_network_is_compared_beside_ours(method, picture):
    assert compare(f'mine={method("own")}', 'bicubic') == 0
    costs = json.load(open('out/results.json'))['methods']
    # One 3x3 convolution from 3 to 3 * 2^2 channels on the LQ of 8x10 pixels.
    assert [costs[0][key] for key in ('name', 'parameters', 'flops')] == ['mine', 12 * (27 + 1), 2 * 80 * 27 * 12]


def test_a_network_whose_scale_nothing_says_is_compared_at_the_one_that_the_command_says(method, picture, capfd):
    method('own')
    with open('doubling.yml', 'w') as file:
        yaml.safe_dump({'network_g': {'type': 'Doubling'}, 'path': {'pretrain_network_g': 'own.pth'}}, file)
    assert compare('doubling.yml', 'own.yml', '--scale', '2') == 0
    one, other = json.load(open('out/results.json'))['images']
    assert one['psnr_rgb'] == other['psnr_rgb']
    assert compare('doubling.yml', '--scale', '4') == 1
    assert 'failed: doubling on photos: a: it gives (1, 3, 8, 10) for' in capfd.readouterr().out


def test_without_its_package_a_users_network_fails_alone_and_the_line_says_what_to_add(method, picture, capfd):
    method('own')
    assert main(['compare', '--methods', 'own.yml', 'bicubic', '--sets', 'photos', '--scale', '2', '-o', 'out']) == 1
    lines = capfd.readouterr().out.splitlines()
    assert lines[-1].startswith("failed: own: own.yml: network_g.type: unknown arch 'OwnNet'")
    assert lines[-1].endswith('; --import PACKAGE adds those of your own') and lines[-2].startswith('1 results, 1 of ')


def rewrite(monkeypatch, path, old, new):
    """Changes a user's file, and forgets what of it is imported, as a new process would have nothing of it."""
    source = open(path).read()
    assert old in source
    open(path, 'w').write(source.replace(old, new, 1))
    for name in ('own_nets', 'own_helper'):
        monkeypatch.delitem(sys.modules, name)
    for registry in REGISTRIES:
        for name in [name for name, target in registry if target.__module__ == 'own_nets']:
            del registry._obj_map[name]


@pytest.mark.parametrize('name', ['own', 'calculate_own'])
def test_a_users_metric_is_one_of_compare(picture, name):
    assert compare('bicubic', '--scale', '2', '--metrics', name) == 0
    assert first_result()[name] == 1602    # 16 rows, and the scale as border
    assert f'photos {name.upper().replace("_", "-")} |' in open('out/results.md').read()


def test_a_users_metric_is_measured_anew_when_a_module_that_it_calls_has_changed(method, picture, calls, monkeypatch):
    method('own')
    run = 'bicubic', 'own.yml', '--metrics', 'psnr_rgb', 'own'
    assert compare(*run) == 0 and compare(*run) == 0 and len(calls) == 2
    rewrite(monkeypatch, 'own_helper.py', '100', '200')
    assert compare(*run, '--metrics', 'psnr_rgb') == 0
    # Of the network, which may call that module as well; not of bicubic.
    assert calls[2:] == [('own', 'a')]
    assert compare(*run) == 0 and first_result()['own'] == 3202


def test_our_network_depends_on_a_users_code_where_its_options_name_a_part_of_it(monkeypatch):
    monkeypatch.setitem(MIXERS, 'mine', lambda dim, head_dim, shift, scan: torch.nn.Identity())
    ours, mixed = (Recipe('net', DiffRWKVIRS2, options, 2, 1) for options in ({'mixer': 'ttt'}, {'mixer': 'mine'}))
    assert code_of(*parts_of(ours)) is None and code_of(*parts_of(mixed)) is not None


def test_a_users_network_may_have_lists_where_ours_name_a_part():
    assert parts_of(Recipe('net', torch.nn.Linear, {'mixer': ['ttt', 'conv']}, 2, 1)) == [torch.nn.Linear]


def test_an_unknown_metric_is_told_what_there_is_and_how_more_come_in(picture, capfd):
    assert compare('bicubic', '--scale', '2', '--metrics', 'ownn') == 2
    line = capfd.readouterr().err.splitlines()[-1]
    assert "--metrics: unknown metric 'ownn' (did you mean 'own'?); choose from psnr_y, " in line
    assert line.endswith(', own, blind, failing; --import PACKAGE adds those of your own')


def test_a_users_metric_that_cannot_be_called_is_left_out_with_its_reason(picture, capfd):
    assert compare('bicubic', '--scale', '2', '--metrics', 'own', 'failing') == 0
    assert 'failing left out: ' in capfd.readouterr().out and 'failing' not in first_result()


def test_a_users_network_is_measured_anew_when_its_code_has_changed(method, picture, monkeypatch):
    assert compare(method('own')) == 0
    first = first_result()
    assert compare('again=own.yml') == 0 and first_result()['psnr_rgb'] == first['psnr_rgb']
    rewrite(monkeypatch, 'own_nets/__init__.py', 'return self.body(x)\n', 'return 1 - self.body(x)\n')
    assert compare('own.yml') == 0 and first_result()['psnr_rgb'] != first['psnr_rgb']


@pytest.mark.parametrize('network, told', [
    ('Twofold', 'it gives a tuple for an LQ, not an image'),
    ('Needy', 'its forward needs (x, text); only an LQ, gt and mask can be given'),
    ('Raising', "Raising fails on an LQ of (1, 3, 8, 10): KeyError: 'body'")])
def test_a_users_network_that_does_not_fit_the_command_is_one_line(method, picture, capfd, network, told):
    bad = method('bad', network)
    assert compare(bad, method('own')) == 1
    lines = capfd.readouterr().out.splitlines()
    assert sum(line.startswith('failed: bad') and line.endswith(told) for line in lines) == 1
    cv2.imwrite('photos/a.png', picture[::2, ::2])
    assert main(['restore', '--import', 'own_nets', 'photos', '-m', bad, '-o', 'restored']) in (1, 2)
    told_of_restoring = capfd.readouterr()
    assert told in told_of_restoring.out + told_of_restoring.err and 'Traceback' not in told_of_restoring.err


@pytest.mark.parametrize('kind, told', [
    ('RaisingItems', '--sets: a of mine: IndexError: list index out of range'),
    ('TwoChannelItems', '--sets: a of mine: the dataset must give an lq of (3, h, w), RGB in [0, 1], or of (1, h, w), '
     'grey'),
    ('NumberedItems', '--sets own.yml: datasets.val.type: NumberedItems does not list its images, as `paths`'),
    ('NeedyItems', "--sets own.yml: datasets.val: KeyError: 'folder'")])
def test_a_users_dataset_that_methods_cannot_be_compared_on_is_one_line(packages, capfd, kind, told):
    options = {'scale': 2, 'datasets': {'val': {'type': kind, 'name': 'mine'}}}
    (packages / 'own.yml').write_text(yaml.safe_dump(options))
    assert main(['compare', '--import', 'own_nets', '--methods', 'bicubic', '--sets', 'own.yml']) == 2
    assert capfd.readouterr().err.splitlines()[-1] == f'basicsr: error: {told}'


def test_a_users_network_is_profiled_by_name_and_by_option_file(method):
    assert main(['profile', '--import', 'own_nets', 'OwnNet', '-opt', method('own'), '--input', '3', '8', '8',
                 '--no-latency', '--csv', 'costs.csv']) == 0
    with open('costs.csv', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    assert [row['network'] for row in rows] == ['OwnNet', 'own']
    assert [int(row['flops']) for row in rows] == 2 * [2 * 64 * 27 * 12]


def test_a_users_network_restores_and_is_exported(method, picture):
    method('own', entry='params_ema')
    content = torch.load('own.pth') | {'network_options': {'scale': 2, 'network': {'type': 'OwnNet', 'scale': 2}}}
    torch.save(content, 'net_g_latest.pth')
    assert main(['restore', '--import', 'own_nets', 'photos', '-m', 'net_g_latest.pth', '-o', 'restored']) == 0
    restored = cv2.imread('restored/a.png')
    assert main(['export', '--import', 'own_nets', '-m', 'own.yml:net_g_latest.pth', '-o', 'own.pt2', '--size', '16',
                 '20']) == 0
    lq = torch.from_numpy(picture[None, ..., ::-1].copy()).permute(0, 3, 1, 2) / 255
    expected = torch.export.load('own.pt2').module()(lq)[0].permute(1, 2, 0).flip(-1).detach().numpy()
    assert np.array_equal(restored, (expected.clip(0, 1) * 255).round())


def test_the_datasets_of_a_users_package_are_checked(options, write_options, capfd):
    del options['datasets']['train']
    options['datasets']['val']['type'] = 'OwnPairs'
    assert main(['prepare', '--import', 'own_nets', '--workers', '1', '--check', write_options(options)]) == 0
    assert 'datasets.val: 6 items, all can be used' in capfd.readouterr().out


@pytest.mark.parametrize('command', [
    ['compare', '--methods', 'bicubic', '--sets', 'photos', '--scale', '2'], ['profile', 'EDSR'],
    ['restore', 'photos'], ['export', '-o', 'a.pt2', '--size', '8', '8'], ['prepare', '--check', 'any.yml']])
def test_every_command_that_takes_a_package_names_one_that_is_broken(command, picture, capfd):
    assert main([*command, '--import', 'broken_nets']) == 2
    assert capfd.readouterr().err.startswith('basicsr: error: --import broken_nets: ZeroDivisionError: ')
