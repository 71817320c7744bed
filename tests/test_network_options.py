"""Checkpoints say what network they are of: tools need no option file, and option files that differ are told."""
import copy

import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr.models import build_model
from basicsr.utils import get_root_logger
from basicsr.utils.options import ordered_yaml
from compare_cases import DIFFUSING, EDSR, build
from drawing import draw

from diffrwkvir_arch.cli import main
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.toolbox.checkpoints import read_checkpoint, save_whole
from diffrwkvir_arch.toolbox.network_options import ENTRY, describe, described, differences
from diffrwkvir_arch.tools.comparison import methods, recognition
from diffrwkvir_arch.tools.networks import from_checkpoint


def save(path, options, seed=0, scale=2):
    """A checkpoint as training writes it; -> its network."""
    net = build(options, seed)
    save_whole({**describe({'scale': scale, 'network_g': options}, 'net_g'), 'params': build(options, 9).state_dict(),
                 'params_ema': net.state_dict()}, str(path))
    return net


def test_training_writes_what_rebuilds_the_network_wherever_the_file_goes(options, write_options, workdir):
    options['network_g'] |= {'num_feat': 12, 'rgb_mean': [0.4, 0.5, 0.6]}
    options['train']['total_iter'] = 2
    assert main(['train', '-opt', write_options(options)]) == 0
    moved = workdir / 'moved.pth'
    (workdir / 'experiments/tiny/models/net_g_latest.pth').rename(moved)
    assert described(read_checkpoint(str(moved))) == (2, dict(options['network_g']))
    net, weights = from_checkpoint(str(moved)), read_checkpoint(str(moved))['params_ema']
    assert not net.training and net.conv_first.out_channels == 12
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize('options', [DIFFUSING, {**DIFFUSING, 'scan': '1d'}, EDSR])
def test_a_checkpoint_alone_restores_as_its_network_does(workdir, options):
    net = save('mine.pth', options)
    found = methods.parse_method('mine.pth')
    assert found.scale() == 2
    lq = torch.rand(1, 3, 8, 9)
    with torch.no_grad():
        assert torch.equal(found.load(2, torch.device('cpu')).restore(lq), net(lq))
        assert torch.equal(from_checkpoint('mine.pth')(lq), net(lq))
    with pytest.raises(InputError, match='it is made for scale 2, --scale is 4'):
        found.load(4, torch.device('cpu'))


def test_restore_needs_neither_option_file_nor_scale(workdir, capsys, monkeypatch):
    save('mine.pth', DIFFUSING)
    cv2.imwrite('photo.png', draw(8, 9, 0))
    assert main(['restore', 'photo.png', '-m', 'mine.pth', '-o', 'out']) == 0
    assert cv2.imread('out/photo.png').shape == (16, 18, 3)
    torch.save({'params': build(EDSR, 0).state_dict()}, 'silent.pth')
    monkeypatch.setattr(recognition, 'SHIPPED_OPTIONS', workdir / 'nowhere')
    assert main(['restore', 'photo.png', '-m', 'silent.pth', '-o', 'out2']) == 2
    assert 'silent.pth: no shipped option file has its network' in capsys.readouterr().err


def test_the_weights_that_come_with_the_package_are_found_by_name(workdir):
    net = from_checkpoint('DiffRWKVIR-tiny_x3.pth')
    assert net(torch.rand(1, 3, 5, 6)).shape == (1, 3, 15, 18)
    assert methods.parse_method('DiffRWKVIR-tiny_x3.pth').scale() == 3


def test_a_network_that_is_not_known_here_is_named_with_its_file(workdir):
    save_whole({ENTRY: {'scale': 2, 'network': {'type': 'DiffRWKVIRS9'}}, 'params': {'w': torch.ones(1)}}, 'later.pth')
    for load in (from_checkpoint, lambda path: methods.parse_method(path).load(2, torch.device('cpu'))):
        with pytest.raises(InputError, match=r"later\.pth: .*unknown arch 'DiffRWKVIRS9'"):
            load('later.pth')


@pytest.mark.parametrize('entry', [None, 'EDSR', {'scale': 2}, {'network': {'dim': 3}}, {'network': torch.ones(1)},
                                   {'network': {'type': ['EDSR']}}])
def test_what_other_projects_call_so_is_not_taken_for_options(workdir, entry):
    torch.save({ENTRY: entry, 'params': build(EDSR, 0).state_dict()}, 'other.pth')
    assert described(read_checkpoint('other.pth')) is None and differences(read_checkpoint('other.pth'), EDSR) == ''
    with pytest.raises(InputError, match=r'other\.pth does not say what network it is of'):
        from_checkpoint('other.pth')


def test_options_are_kept_as_plain_values():
    loader, _ = ordered_yaml()
    options = yaml.load('{type: EDSR, rgb_mean: [0.1, 0.2], more: {deep: ~, number: 1.5}}', Loader=loader)
    options['shape'] = (1, np.float32(2), np.float64(0.5))
    entry = describe({'scale': 4, 'network_g': options}, 'net_g')[ENTRY]
    assert type(entry['network']) is dict and type(entry['network']['more']) is dict
    assert entry['network'] == {'type': 'EDSR', 'rgb_mean': [0.1, 0.2], 'more': {'deep': None, 'number': 1.5},
                                'shape': [1, '2.0', 0.5]}
    assert type(entry['network']['shape'][2]) is float
    assert describe({'scale': 4}, 'net_d') == {}


# Option files that differ


@pytest.fixture
def opt(options):
    return dict(options, is_train=True, auto_resume=False, dist=False, rank=0, world_size=1,
                network_g={**DIFFUSING, 'scan': 'omni'}, model_type='RestorationModel')


def test_weights_that_fit_a_network_of_other_options_are_told(opt, workdir, caplog, monkeypatch):
    monkeypatch.setattr(get_root_logger(), 'propagate', True)
    for scan, told in (('1d', True), ('omni', False)):
        caplog.clear()
        save('start.pth', {**DIFFUSING, 'scan': scan})
        opt['path']['pretrain_network_g'] = 'start.pth'
        build_model(copy.deepcopy(opt))
        assert ('path.pretrain_network_g: start.pth: its network has scan: 1d (here omni)' in caplog.text) == told


@pytest.mark.parametrize('made, here', [({'scan': '1d'}, {}), ({}, {'scan': '1d'})])
def test_options_that_are_left_out_have_their_defaults(made, here):
    checkpoint = describe({'scale': 2, 'network_g': {**DIFFUSING, **made}}, 'net_g')
    told = {True: 'scan: 1d (here omni)', False: 'scan: omni (here 1d)'}[bool(made)]
    assert differences(checkpoint, {**DIFFUSING, **here}) == told
    assert differences(checkpoint, {**DIFFUSING, **made}) == ''


def test_the_tools_tell_too(workdir, caplog, monkeypatch):
    monkeypatch.setattr(get_root_logger(), 'propagate', True)
    save('mine.pth', {**DIFFUSING, 'scan': '1d'})
    (workdir / 'omni.yml').write_text(yaml.safe_dump({'scale': 2, 'network_g': DIFFUSING}))
    methods.parse_method('omni.yml:mine.pth').load(2, torch.device('cpu'))
    assert 'mine.pth: its network has scan: 1d (here omni); its weights fit all the same' in caplog.text


def test_a_discriminator_is_compared_with_network_d(opt, workdir, caplog, monkeypatch):
    monkeypatch.setattr(get_root_logger(), 'propagate', True)
    save('net_d.pth', EDSR)
    opt['path']['pretrain_network_d'] = 'net_d.pth'
    for feat in (8, 9):
        opt['network_d'] = {**EDSR, 'num_feat': feat}
        caplog.clear()
        build_model(copy.deepcopy(opt)).load_network(build(EDSR, 0), 'net_d.pth')
        assert ('num_feat: 8 (here 9)' in caplog.text) == (feat == 9)


def test_what_a_checkpoint_says_counts_more_than_a_file_near_it(workdir):
    (workdir / 'models').mkdir()
    save('models/mine.pth', DIFFUSING)
    (workdir / 'docker-compose.yml').write_text('services: {}')
    assert methods.parse_method('models/mine.pth').scale() == 2


@pytest.mark.parametrize('place, told', [('nowhere.pth', 'nowhere.pth does not exist'),
                                         ('folder', 'folder is a folder')])
def test_a_checkpoint_that_is_not_there_is_named(workdir, capsys, place, told):
    (workdir / 'folder').mkdir()
    cv2.imwrite('photo.png', draw(8, 9, 0))
    assert main(['restore', 'photo.png', '-m', place]) == 2
    assert told in capsys.readouterr().err


def test_compare_takes_the_scale_that_a_checkpoint_says(workdir):
    save('mine.pth', EDSR)
    (workdir / 'gt').mkdir()
    cv2.imwrite('gt/photo.png', draw(16, 18, 0))
    arguments = ['--methods', 'bicubic', 'mine.pth', '--sets', 'gt', '-o', 'out', '--metrics', 'psnr_y']
    assert main(['compare', *arguments]) == 0


@pytest.mark.parametrize('options, scale, told', [
    ({**DIFFUSING, 'type': 'DiffRWKVIRS1'}, 2, 'it reads its prior from the GT'),
    ({'type': 'UNetDiscriminatorSN', 'num_in_ch': 3}, 1, 'UNetDiscriminatorSN fails on an LQ of (1, 3, 17, 16): ')])
def test_networks_that_restore_nothing_are_told_in_one_line(workdir, capsys, options, scale, told):
    save('other.pth', options, scale=scale)
    cv2.imwrite('photo.png', draw(17, 16, 0))
    assert main(['restore', 'photo.png', '-m', 'other.pth'])
    captured = capsys.readouterr()
    assert told in captured.err + captured.out and 'Traceback' not in captured.err


def test_weights_that_do_not_fit_name_the_options_that_differ(opt, workdir):
    save('start.pth', {**DIFFUSING, 'dim': 32, 'blocks': 2})
    opt['path']['pretrain_network_g'] = 'start.pth'
    with pytest.raises(InputError, match=r'does not fit DiffRWKVIRS2: .*Its network has dim: 32 \(here 16\), blocks: 2 '
                                         r'\(here 1\)'):
        build_model(opt)
