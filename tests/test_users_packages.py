"""A user's own package in the commands beside training: its networks, metrics and datasets."""
import csv
import importlib
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from diffrwkvir_arch.archs.diffrwkvir_s2_arch import DiffRWKVIRS2
from diffrwkvir_arch.archs.mixers import MIXERS
from diffrwkvir_arch.cli import main
from diffrwkvir_arch.tools.comparison.users_code import code_of, parts_of
from diffrwkvir_arch.tools.networks import Recipe
from package_cases import REGISTRIES

pytestmark = pytest.mark.usefixtures('packages')


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


@pytest.mark.parametrize('better, best, arrow', [('lower', 'own', '↓'), ('higher', 'bicubic', '↑')])
def test_a_users_metric_may_say_which_way_is_better(method, picture, better, best, arrow):
    with open('own_nets/__init__.py', 'a') as file:
        file.write(f"""
@METRIC_REGISTRY.register()
def calculate_spread(img):
    return float(img.std())


calculate_spread.better = {better!r}
""")
    assert compare(method('own'), 'bicubic', '--metrics', 'spread') == 0
    text = Path('out/results.md').read_text(encoding='utf-8')
    assert f'photos SPREAD {arrow} |' in text and f'| {best} | **' in text


def test_a_users_metric_that_says_so_in_other_words_is_refused(picture, capfd):
    with open('own_nets/__init__.py', 'a') as file:
        file.write("calculate_blind.better = 'less'\n")
    assert compare('bicubic', '--scale', '2', '--metrics', 'blind') == 2
    line = capfd.readouterr().err.splitlines()[-1]
    assert line == "basicsr: error: --metrics: calculate_blind.better must be 'higher' or 'lower', got 'less'"


def test_a_users_metric_is_measured_anew_when_a_module_that_it_calls_has_changed(method, picture, calls, monkeypatch):
    method('own')
    run = 'bicubic', 'own.yml', '--metrics', 'psnr_rgb', 'own'
    assert compare(*run) == 0 and compare(*run) == 0 and len(calls) == 2
    rewrite(monkeypatch, 'own_helper.py', '100', '200')
    assert compare(*run, '--metrics', 'psnr_rgb') == 0
    # Of the network, which may call that module as well; not of bicubic.
    assert calls[2:] == [('own', 'a')]
    assert compare(*run) == 0 and first_result()['own'] == 3202


def test_a_module_counts_that_is_imported_only_when_a_function_is_called(packages, monkeypatch):
    monkeypatch.syspath_prepend(packages)
    monkeypatch.syspath_prepend(packages / 'site-packages')
    (packages / 'site-packages').mkdir()
    modules = {'asking': 'def mine():\n    from between.part import more\n    import installed\n',
               'between/part': 'def more():\n    import own_helper as helper\n', 'site-packages/installed': ''}
    (packages / 'between').mkdir()
    for name, source in modules.items():
        (packages / f'{name}.py').write_text(source)
    mine = importlib.import_module('asking').mine
    codes = [code_of(mine), code_of(mine)]
    for name in ('site-packages/installed', 'between/part', 'own_helper'):
        with open(f'{name}.py', 'a') as file:
            file.write('# changed\n')
        codes.append(code_of(mine))
    assert codes[0] == codes[1] == codes[2] and len(set(codes)) == 3
    assert not {'between', 'own_helper', 'installed'} & sys.modules.keys()
    monkeypatch.delitem(sys.modules, 'asking')


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


@pytest.mark.parametrize('command', [
    ['compare', '--methods', 'bicubic', '--sets', 'photos', '--scale', '2'], ['profile', 'EDSR'],
    ['restore', 'photos'], ['export', '-o', 'a.pt2', '--size', '8', '8'], ['prepare', '--check', 'any.yml']])
def test_every_command_that_takes_a_package_names_one_that_is_broken(command, picture, capfd):
    assert main([*command, '--import', 'broken_nets']) == 2
    assert capfd.readouterr().err.startswith('basicsr: error: --import broken_nets: ZeroDivisionError: ')
