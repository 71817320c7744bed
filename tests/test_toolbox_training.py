"""Optimizers, moving averages and log lines: upstream's faults and their mends."""
import warnings

import pytest
import torch
from basicsr.models import build_model
from basicsr.models.base_model import BaseModel
from basicsr.utils.logger import MessageLogger

from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.toolbox import logs


@pytest.mark.parametrize('message', [
    'torch.meshgrid: in an upcoming release, it will be required to pass the indexing argument.',
    'Grad strides do not match bucket view strides. This may indicate grad was not created'])
def test_a_warning_that_nobody_can_heed_is_not_shown(message):
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter('always')
        logs.mend_vain_warnings()
        warnings.warn(message)
        warnings.warn('another')
    assert [str(warning.message) for warning in shown] == ['another']


@pytest.mark.parametrize('name', ['Adam', 'AdamW', 'SGD', 'NAdam', 'RMSprop'])
def test_every_optimizer_of_torch_is_at_hand(opt, name):
    opt['train']['optim_g'] = {'type': name, 'lr': 1e-3, 'weight_decay': 0.1}
    model = build_model(opt)
    assert type(model.optimizer_g) is getattr(torch.optim, name) and model.optimizer_g.defaults['weight_decay'] == 0.1
    if name != 'Adam':
        with pytest.raises(NotImplementedError):
            BaseModel.get_optimizer.upstream(model, name, [], 1e-3)


@pytest.mark.parametrize('section, message', [
    ({'type': 'AdmaW', 'lr': 1e-3}, r"unknown optimizer 'AdmaW' \(did you mean 'AdamW'\?\)"),
    ({'type': 'Adam', 'lr': 1e-3, 'beta': [0.9, 0.99]},
     r"unknown option 'train.optim.beta' \(did you mean 'betas'\?\); train.optim takes lr, betas"),
    ({'type': 'Adam', 'lr': -1.0}, 'Adam refuses lr: -1.0: Invalid learning rate'),
    ({'type': 'Adam', 'lr': 'small'}, 'Adam refuses lr: small'),
])
def test_an_optimizer_that_cannot_be_made_is_explained(opt, section, message):
    opt['train']['optim_g'] = section
    with pytest.raises(InputError, match=message):
        build_model(opt)


def test_the_moving_average_copies_buffers(opt):
    model = build_model(opt)
    model.net_g, model.net_g_ema = torch.nn.BatchNorm2d(2), torch.nn.BatchNorm2d(2)
    with torch.no_grad():
        model.net_g.weight.fill_(3)
    model.net_g.running_mean.fill_(5)
    model.net_g.num_batches_tracked.fill_(7)
    BaseModel.model_ema.upstream(model, 0.5)
    assert model.net_g_ema.weight[0] == 2 and model.net_g_ema.running_mean[0] == 0
    model.model_ema(0.5)
    assert model.net_g_ema.weight[0] == 2.5
    assert model.net_g_ema.running_mean[0] == 5 and model.net_g_ema.num_batches_tracked == 7


def test_the_last_line_has_no_negative_time_left(opt, monkeypatch):
    clock = {'now': 0.}
    monkeypatch.setattr('basicsr.utils.logger.time', type('Clock', (), {'time': staticmethod(lambda: clock['now'])}))

    def last_line(init):
        clock['now'] = 0.
        logger = object.__new__(MessageLogger)
        init(logger, opt, 0)
        lines = []
        logger.logger = type('Log', (), {'info': staticmethod(lines.append)})
        clock['now'] = 600.
        logger({'epoch': 0, 'iter': 6, 'lrs': [1e-3], 'time': 1., 'data_time': 0.})
        return lines[0]

    assert 'eta: -1 day' in last_line(MessageLogger.__init__.upstream)
    assert 'eta: 0:00:00' in last_line(MessageLogger.__init__)
