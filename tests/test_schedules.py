"""Learning rates: what the schedule says, whether a run warms up, is resumed, or is resumed with other options."""
import copy
import os

import basicsr.train
import pytest
import torch
from basicsr.models import build_model
from basicsr.models.base_model import BaseModel

from diffrwkvir_arch.cli import main
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.toolbox import resumed_options

STEPS = {'type': 'MultiStepLR', 'milestones': [4, 9, 9, 12], 'gamma': 0.5}
RESTARTS = {**STEPS, 'restarts': [0, 8], 'restart_weights': [1, 0.5]}
COSINE = {'type': 'CosineAnnealingRestartLR', 'periods': [8, 8], 'restart_weights': [1, 0.5], 'eta_min': 1e-7}


@pytest.fixture
def opt(opt):
    opt['train']['total_iter'] = 16
    return opt


def with_schedule(opt, schedule):
    return build_model({**opt, 'train': {**opt['train'], 'scheduler': dict(schedule)}})


def rates(model, iterations, warmup_iter=-1, update=BaseModel.update_learning_rate):
    """The learning rate of each iteration."""
    seen = []
    for iteration in iterations:
        update(model, iteration, warmup_iter)
        seen += model.get_current_learning_rate()
    return seen


def unmended(function):
    """What BasicSR has in place of a function, however many mends lie upon it."""
    while hasattr(function, 'upstream'):
        function = function.upstream
    return function


@pytest.mark.parametrize('schedule', [STEPS, RESTARTS, COSINE])
def test_after_the_warm_up_rates_are_those_without_one(opt, schedule):
    plain = rates(with_schedule(opt, schedule), range(1, 17))
    for warmup_iter in (1, 3, 6, 11):
        warmed = rates(with_schedule(opt, schedule), range(1, 17), warmup_iter)
        assert warmed[:warmup_iter - 1] == [1e-3 / warmup_iter * done for done in range(1, warmup_iter)]
        assert warmed[warmup_iter - 1:] == plain[warmup_iter - 1:]


@pytest.mark.filterwarnings('ignore:Detected call of `lr_scheduler.step')
def test_upstream_stays_below_the_schedule_after_a_warm_up(opt):
    upstream = unmended(BaseModel.update_learning_rate)
    assert rates(with_schedule(opt, STEPS), range(1, 17), 3, upstream)[2] == pytest.approx(1e-3 * 2 / 3)


def test_an_optimizer_that_waits_for_its_first_step_is_no_wrong_order(opt, recwarn):
    rates(with_schedule(opt, STEPS), [1, 2])
    assert not recwarn
    with pytest.warns(UserWarning, match='before `optimizer.step'):
        rates(with_schedule(opt, STEPS), [1, 2], update=unmended(BaseModel.update_learning_rate))


# ----- resumed with other options -----


@pytest.fixture
def warnings(monkeypatch):
    """What a resumed run says of its options."""
    said = []
    monkeypatch.setattr(resumed_options, 'warn', said.append)
    return said


def resumed(opt, train, at):
    """A model with these options of train that goes on from a state which the model of opt saved."""
    model = with_schedule(opt, opt['train']['scheduler'])
    for iteration in range(1, at + 1):
        model.update_learning_rate(iteration, opt['train']['warmup_iter'])
        model.feed_data({'lq': torch.rand(1, 3, 8, 8), 'gt': torch.rand(1, 3, 16, 16)})
        model.optimize_parameters(iteration)
    model.save(0, at)
    opt = copy.deepcopy({**opt, 'auto_resume': True, 'train': {**opt['train'], **train}})
    opt['path'].update(experiments_root=opt['path']['models'])
    state = basicsr.train.load_resume_state(opt)
    model = build_model(opt)
    model.resume_training(state)
    return model


@pytest.mark.parametrize('before, after', [
    (STEPS, {**STEPS, 'milestones': [2, 7, 13], 'gamma': 0.1}), (STEPS, RESTARTS), (STEPS, STEPS),
    (COSINE, {**COSINE, 'periods': [4, 12], 'eta_min': 1e-5})])
@pytest.mark.parametrize('lr', [1e-3, 3e-4])
def test_a_resumed_run_has_the_rates_of_its_option_file(opt, warnings, before, after, lr):
    opt['train'].update(scheduler=before, warmup_iter=7)
    train = {'scheduler': after, 'optim_g': {**opt['train']['optim_g'], 'lr': lr}}
    model = resumed(opt, train, at=5)
    whole = with_schedule({**opt, 'train': {**opt['train'], **train}}, after)
    assert rates(model, range(6, 17), 7) == rates(whole, range(1, 17), 7)[5:]
    assert len(warnings) == (before != after or lr != 1e-3)
    assert lr == 1e-3 or 'train.optim_g.lr: 0.0003 (was 0.001)' in warnings[0]


def test_a_resumed_run_has_the_optimizer_of_its_option_file(opt, warnings):
    options = {'type': 'Adam', 'lr': 1e-3, 'betas': [0.5, 0.9], 'weight_decay': 0.1}
    model = resumed(opt, {'optim_g': options}, at=2)
    group = model.optimizer_g.param_groups[0]
    assert (list(group['betas']), group['weight_decay']) == ([0.5, 0.9], 0.1)
    assert model.optimizer_g.state[group['params'][0]]['step'] == 2
    assert warnings == ['resuming with the options of the file, which differ from the saved state: '
                        'train.optim_g.betas: [0.5, 0.9] (was [0.9, 0.99]), train.optim_g.weight_decay: 0.1 (was 0)']


def test_states_of_before_say_no_types_and_their_rates_after_a_warm_up_are_put_right(opt, warnings, monkeypatch):
    monkeypatch.setattr(BaseModel, 'save_training_state', BaseModel.save_training_state.upstream)
    monkeypatch.setattr(BaseModel, 'update_learning_rate', unmended(BaseModel.update_learning_rate))
    opt['train'].update(scheduler=STEPS, warmup_iter=3)
    model = resumed(opt, {}, at=6)
    assert model.get_current_learning_rate() == [5e-4] and warnings == []


ANOTHER = [({'optim_g': {'type': 'AdamW', 'lr': 1e-3}}, 'optim_g.type: AdamW cannot take up .*a state of Adam; go on'),
           ({'optim_g': {'type': 'SGD', 'lr': 1e-3}}, 'optim_g.type: SGD cannot .*start a run of another name from its '
            'weights, path.pretrain_network_g: .*/net_g_2.pth'),
           ({'optim_g': {'type': 'Adam', 'amsgrad': True}}, 'optim_g: Adam with these options .*other switches'),
           ({'scheduler': COSINE}, 'scheduler.type: CosineAnnealingRestartLR cannot take up .*a state of MultiStepLR')]


@pytest.mark.parametrize('train, told', ANOTHER)
def test_another_optimizer_or_scheduler_is_refused(opt, train, told):
    with pytest.raises(InputError, match=told):
        resumed(opt, train, at=2)


@pytest.mark.parametrize('train, told', [(ANOTHER[1][0], 'SGD with these options .*another optimizer'), ANOTHER[2],
                                         ANOTHER[3]])
def test_another_optimizer_than_that_of_a_state_of_before_is_refused(opt, monkeypatch, train, told):
    monkeypatch.setattr(BaseModel, 'save_training_state', BaseModel.save_training_state.upstream)
    with pytest.raises(InputError, match=told.replace('other switches', 'another optimizer')):
        resumed(opt, train, at=2)


def test_what_is_refused_changes_no_file(options, write_options, workdir, capfd):
    path = write_options(options)
    assert main(['train', '-opt', path]) == 0
    before = sorted(os.walk('experiments')), open('experiments/tiny/tiny.yml').read()
    assert main(['train', '-opt', path, '--auto_resume', '--force_yml', 'train:optim_g:type=AdamW']) == 2
    assert 'train.optim_g.type: AdamW cannot take up' in capfd.readouterr().err
    assert (sorted(os.walk('experiments')), open('experiments/tiny/tiny.yml').read()) == before
