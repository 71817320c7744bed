"""Checkpoints say what network they are of: tools need no option file, and option files that differ are told."""
import copy
import logging

import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr.models import build_model
from basicsr.utils.options import ordered_yaml
from compare_cases import DIFFUSING, EDSR, build
from drawing import draw

from diffrwkvir_arch.cli import main
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.toolbox.checkpoints import read_checkpoint, write_whole
from diffrwkvir_arch.toolbox.network_options import ENTRY, describe, described, differences
from diffrwkvir_arch.tools.comparison import methods
from diffrwkvir_arch.tools.networks import from_checkpoint


def save(path, options, seed=0, scale=2):
    """A checkpoint as training writes it; -> its network."""
    net = build(options, seed)
    write_whole({**describe({'scale': scale, 'network_g': options}, 'net_g'), 'params': build(options, 9).state_dict(),
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


def test_restore_needs_neither_option_file_nor_scale(workdir, capsys):
    save('mine.pth', DIFFUSING)
    cv2.imwrite('photo.png', draw(8, 9, 0))
    assert main(['restore', 'photo.png', '-m', 'mine.pth', '-o', 'out']) == 0
    assert cv2.imread('out/photo.png').shape == (16, 18, 3)
    torch.save({'params': build(EDSR, 0).state_dict()}, 'silent.pth')
    assert main(['restore', 'photo.png', '-m', 'silent.pth', '-o', 'out2']) == 2
    assert 'neither option file nor checkpoint says it' in capsys.readouterr().err


def test_the_weights_that_come_with_the_package_are_found_by_name(workdir):
    net = from_checkpoint('DiffRWKVIR-tiny_x3.pth')
    assert net(torch.rand(1, 3, 5, 6)).shape == (1, 3, 15, 18)
    assert methods.parse_method('DiffRWKVIR-tiny_x3.pth').scale() == 3


def test_a_network_that_is_not_known_here_is_named_with_its_file(workdir):
    write_whole({ENTRY: {'scale': 2, 'network': {'type': 'DiffRWKVIRS9'}}, 'params': {'w': torch.ones(1)}}, 'later.pth')
    for load in (from_checkpoint, lambda path: methods.parse_method(path).load(2, torch.device('cpu'))):
        with pytest.raises(InputError, match=r"later\.pth: .*unknown arch 'DiffRWKVIRS9'"):
            load('later.pth')


@pytest.mark.parametrize('entry', [None, 'EDSR', {'scale': 2}, {'network': {'dim': 3}}, {'network': torch.ones(1)}])
def test_what_other_projects_call_so_is_not_taken_for_options(workdir, entry):
    torch.save({ENTRY: entry, 'params': build(EDSR, 0).state_dict()}, 'other.pth')
    assert described(read_checkpoint('other.pth')) is None and differences(read_checkpoint('other.pth'), EDSR) == ''
    with pytest.raises(InputError, match=r'other\.pth does not say what network it is of'):
        from_checkpoint('other.pth')


def test_options_are_kept_as_plain_values():
    loader, _ = ordered_yaml()
    options = yaml.load('{type: EDSR, rgb_mean: [0.1, 0.2], more: {deep: ~, number: 1.5}}', Loader=loader)
    options['shape'] = (1, np.float32(2))
    entry = describe({'scale': 4, 'network_g': options}, 'net_g')[ENTRY]
    assert type(entry['network']) is dict and type(entry['network']['more']) is dict
    assert entry['network'] == {'type': 'EDSR', 'rgb_mean': [0.1, 0.2], 'more': {'deep': None, 'number': 1.5},
                                'shape': [1, '2.0']}
    assert describe({'scale': 4}, 'net_d') == {}


# Option files that differ


@pytest.fixture
def opt(options):
    return dict(options, is_train=True, auto_resume=False, dist=False, rank=0, world_size=1,
                network_g={**DIFFUSING, 'scan': 'omni'}, model_type='RestorationModel')


def test_weights_that_fit_a_network_of_other_options_are_told(opt, workdir, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger('basicsr'), 'propagate', True)
    for scan, told in (('1d', True), ('omni', False)):
        caplog.clear()
        save('start.pth', {**DIFFUSING, 'scan': scan})
        opt['path']['pretrain_network_g'] = 'start.pth'
        build_model(copy.deepcopy(opt))
        assert ('path.pretrain_network_g: the network of start.pth has scan: 1d (here omni)' in caplog.text) == told


def test_weights_that_do_not_fit_name_the_options_that_differ(opt, workdir):
    save('start.pth', {**DIFFUSING, 'dim': 32, 'blocks': 2})
    opt['path']['pretrain_network_g'] = 'start.pth'
    with pytest.raises(InputError, match=r'does not fit DiffRWKVIRS2: .*Its network has dim: 32 \(here 16\), blocks: 2 '
                                         r'\(here 1\)'):
        build_model(opt)
