"""Checkpoints: written whole, read with a message that helps."""
import errno
import os
import random

import pytest
import torch
from basicsr.archs import build_network
from basicsr.models import build_model
from basicsr.models.base_model import BaseModel

from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.toolbox.checkpoints import state_dict_in
from diffrwkvir_arch.toolbox.network_options import ENTRY
from checkpoint_cases import network_file


# ----- saving -----


def failing(error):
    """A function that fails."""

    def function(*arguments):
        raise error

    return function


@pytest.mark.parametrize('save', ['save_network', 'save_training_state'])
def test_a_full_disk_keeps_the_checkpoint_that_was_there(model, opt, monkeypatch, save):

    def run():
        if save == 'save_network':
            model.save_network(model.net_g, 'net_g', 3)
        else:
            model.save_training_state(0, 3)

    run()
    path = network_file(opt) if save == 'save_network' else os.path.join(opt['path']['training_states'], '3.state')
    good = open(path, 'rb').read()
    monkeypatch.setattr(os, 'fsync', failing(OSError(errno.ENOSPC, 'No space left on device')))
    with pytest.raises(InputError, match=f'no space left on device for {path}') as error:
        run()
    assert open(path, 'rb').read() == good and os.listdir(os.path.dirname(path)) == [os.path.basename(path)]
    assert '\n' not in str(error.value)


def test_upstream_ignores_that_it_could_not_save(model, monkeypatch):
    messages = []
    monkeypatch.setattr('time.sleep', lambda seconds: None)
    monkeypatch.setattr(torch, 'save', failing(OSError(errno.ENOSPC, 'full')))
    monkeypatch.setattr('basicsr.models.base_model.get_root_logger',
                        lambda: type('Log', (), {'warning': staticmethod(messages.append)}))
    BaseModel.save_network.upstream(model, model.net_g, 'net_g', 3)
    assert 'Just ignore it' in messages[-1]


def test_a_passing_failure_is_tried_again(model, opt, monkeypatch):
    calls, replace = [], os.replace

    def fail_twice(source, target):
        calls.append(target)
        if len(calls) < 3:
            raise OSError(errno.EIO, 'Input/output error')
        replace(source, target)

    monkeypatch.setattr('time.sleep', lambda seconds: None)
    monkeypatch.setattr(os, 'replace', fail_twice)
    model.save_network(model.net_g, 'net_g', 3)
    assert len(calls) == 3 and 'params' in torch.load(network_file(opt))
    monkeypatch.setattr(os, 'replace', failing(OSError(errno.EROFS, 'Read-only file system')))
    with pytest.raises(InputError, match=r'cannot write .*net_g_3\.pth: Read-only file system'):
        model.save_network(model.net_g, 'net_g', 3)


def test_what_is_saved_is_what_upstream_saves(model, opt):
    model.save_network([model.net_g, model.net_g_ema], 'net_g', 3, param_key=['params', 'params_ema'])
    ours = torch.load(network_file(opt))
    BaseModel.save_network.upstream(model, [model.net_g, model.net_g_ema], 'net_g', 3, ['params', 'params_ema'])
    upstream = torch.load(network_file(opt))
    assert ours.keys() == upstream.keys() | {ENTRY}
    for key in upstream:
        assert all(torch.equal(ours[key][name], tensor) for name, tensor in upstream[key].items())


# ----- loading -----


def test_a_missing_checkpoint_is_named_with_its_option(opt):
    opt['path']['pretrain_network_g'] = 'nowhere.pth'
    with pytest.raises(InputError, match=r'path\.pretrain_network_g: nowhere\.pth does not exist'):
        build_model(opt)


def test_a_truncated_checkpoint_is_named(model, opt):
    model.save_network(model.net_g, 'net_g', 3)
    content = open(network_file(opt), 'rb').read()
    for rest in (content[:len(content) // 2], b'', b'no checkpoint'):
        open(network_file(opt), 'wb').write(rest)
        with pytest.raises(InputError, match=r'net_g_3\.pth is damaged or not a PyTorch file') as error:
            model.load_network(model.net_g, network_file(opt))
        assert '\n' not in str(error.value)


def test_a_checkpoint_with_python_objects_is_not_run(model, opt):
    torch.save({'params': model.net_g.state_dict(), 'args': random.Random(0)}, network_file(opt))
    with pytest.raises(InputError, match='holds Python objects beside tensors'):
        model.load_network(model.net_g, network_file(opt))


def test_a_plain_state_dict_loads(model, opt):
    other = {name: torch.full_like(tensor, 0.5) for name, tensor in model.net_g.state_dict().items()}
    torch.save({f'module.{name}': tensor for name, tensor in other.items()}, network_file(opt))
    with pytest.raises(KeyError, match='params'):
        BaseModel.load_network.upstream(model, model.net_g, network_file(opt))
    for param_key in ('params', 'params_ema', None):
        model.load_network(model.net_g, network_file(opt), param_key=param_key)
    assert all((tensor == 0.5).all() for tensor in model.net_g.state_dict().values())


def test_the_nearest_entry_is_taken_where_the_wanted_one_is_absent():
    weights = {'w': torch.zeros(1)}
    assert state_dict_in({'params': weights}, 'params_ema') == (weights, 'params')
    assert state_dict_in({'params_ema': weights}, 'params') == (weights, 'params_ema')
    assert state_dict_in({'params': weights, 'params_ema': {}}, None) == (weights, 'params')
    assert state_dict_in({'model': 3}, 'params') == (None, None)
    assert state_dict_in([1], 'params') == (None, None)


def test_a_file_without_weights_tells_what_it_holds(model, opt):
    torch.save({'epoch': 1, 'loss': 2}, network_file(opt))
    with pytest.raises(InputError, match=r"holds no weights under 'params' \(it holds: epoch, loss\)"):
        model.load_network(model.net_g, network_file(opt))


def test_another_networks_checkpoint_is_told_in_one_line(model, opt):
    torch.save({'params': torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Linear(2, 2)).state_dict()},
               network_file(opt))
    opt['path']['pretrain_network_g'] = network_file(opt)
    with pytest.raises(InputError) as error:
        build_model(opt)
    message = str(error.value)
    assert message.startswith('path.pretrain_network_g: ') and '\n' not in message
    assert 'does not fit EDSR' in message
    assert 'lacks body.0.conv1.bias, body.0.conv1.weight, body.0.conv2.bias and ' in message
    assert 'has 0.bias, 0.weight, 1.bias and 1 more instead' in message and 'another network' in message


def test_another_scale_is_recognised(model, opt):
    other = build_network(dict(opt['network_g'], upscale=3))
    torch.save({'params': other.state_dict()}, network_file(opt))
    told = r'upsample\.0\.bias: \(72,\) in the file, \(32,\) in the network.*other scale'
    with pytest.raises(InputError, match=told):
        model.load_network(model.net_g, network_file(opt))
    # As upstream: what fits is taken, the rest logged.
    model.load_network(model.net_g, network_file(opt), strict=False)
    assert torch.equal(model.net_g.conv_first.weight, other.conv_first.weight)


def test_what_a_file_lacks_starts_alike_in_the_network_and_its_moving_average(model, opt):
    other = build_network(dict(opt['network_g'], upscale=3))
    torch.save({'params': other.state_dict()}, network_file(opt))
    opt['path'].update(pretrain_network_g=network_file(opt), strict_load_g=False)
    model = build_model(opt)
    average = model.net_g_ema.state_dict()
    assert all(torch.equal(average[name], tensor) for name, tensor in model.net_g.state_dict().items())
    assert torch.equal(average['conv_first.weight'], other.conv_first.weight)
