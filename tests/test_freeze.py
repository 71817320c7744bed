"""train.freeze: which weights stay, what learns, what cannot be frozen, and that runs go on."""
import pytest
import torch
from basicsr.models import build_model
from basicsr.utils import get_root_logger
from torch import distributed as dist

from diffrwkvir_arch.cli import main
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.models.restoration_model import RestorationModel, freeze

FROZEN = ['conv_first', 'body.0.conv1.weight']


def frozen_of(name):
    return name.startswith('conv_first.') or name == 'body.0.conv1.weight'


@pytest.fixture
def freezing(opt):
    """The options of a run of RestorationModel with FROZEN."""
    opt['model_type'] = 'RestorationModel'
    opt['train']['freeze'] = FROZEN
    opt['val'] = {}
    return opt


def steps(model, count=2):
    """The weights before and after so many steps."""
    before = {name: weight.clone() for name, weight in model.get_bare_model(model.net_g).state_dict().items()}
    torch.manual_seed(0)
    for step in range(1, count + 1):
        model.feed_data({'lq': torch.rand(2, 3, 8, 8), 'gt': torch.rand(2, 3, 16, 16)})
        model.optimize_parameters(step)
    return before, model.get_bare_model(model.net_g).state_dict()


def check_learning(before, after):
    for name in before:
        assert torch.equal(before[name], after[name]) == frozen_of(name), name


def test_what_is_named_stays_and_the_rest_learns(freezing):
    model = build_model(freezing)
    check_learning(*steps(model))
    learning = [parameter for group in model.optimizer_g.param_groups for parameter in group['params']]
    assert len(learning) == sum(not frozen_of(name) for name, _ in model.net_g.named_parameters())
    averaged, current = (dict(net.named_parameters()) for net in (model.net_g_ema, model.net_g))
    assert all(torch.allclose(averaged[name], current[name], rtol=1e-6, atol=0) for name in current if frozen_of(name))


def test_a_name_is_that_of_one_module_and_not_of_those_that_begin_alike():
    net = torch.nn.Sequential(*(torch.nn.Linear(1, 1) for _ in range(11)))
    freeze(net, ['1', '3.bias'])
    assert [name for name, parameter in net.named_parameters() if not parameter.requires_grad] == [
        '1.weight', '1.bias', '3.bias']


def test_what_is_frozen_is_one_line_of_the_log(freezing, caplog, monkeypatch):
    said = []
    caplog.set_level('INFO', 'basicsr')
    monkeypatch.setattr(get_root_logger(), 'handle', lambda record: said.append(record.getMessage()))
    model = build_model(freezing)
    frozen, learning = (sum(weight.numel() for name, weight in model.net_g.named_parameters()
                            if frozen_of(name) == wanted) for wanted in (True, False))
    assert [line for line in said if 'optimized' in line or 'stay' in line] == [
        f'{frozen:,d} parameters of network_g stay as they are, {learning:,d} learn']


def test_the_averages_of_a_frozen_batch_norm_stay_and_others_move():
    net = torch.nn.Sequential(*(torch.nn.Sequential(torch.nn.BatchNorm2d(1), torch.nn.Dropout()) for _ in range(2)))
    freeze(net, ['0'])
    net.train()(torch.full((2, 1, 2, 2), 5.))
    assert [part[0].running_mean.item() != 0 for part in net] == [False, True]
    assert [part.training for part in net[0]] == [False, True]


def test_without_freeze_everything_learns(freezing):
    del freezing['train']['freeze']
    before, after = steps(build_model(freezing))
    assert not any(torch.equal(before[name], after[name]) for name in before)


def test_processes_do_not_wait_for_gradients_of_what_is_frozen(freezing, tmp_path):
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        model = build_model({**freezing, 'dist': True})
        check_learning(*steps(model, 3))
    finally:
        dist.destroy_process_group()


def test_a_resumed_run_ends_with_the_weights_of_one_that_never_stopped(options, write_options, workdir, capsys):
    options['model_type'], options['train']['freeze'] = 'RestorationModel', FROZEN

    def weights(name):
        return torch.load(f'experiments/{name}/models/net_g_6.pth')['params']

    assert main(['train', '-opt', write_options({**options, 'name': 'whole'})]) == 0
    file = write_options({**options, 'name': 'parts'})
    assert main(['train', '-opt', file, '--force_yml', 'train:total_iter=3']) == 0
    assert main(['train', '-opt', write_options({**options, 'name': 'parts'}), '--auto_resume']) == 0
    assert all(torch.equal(weight, weights('parts')[name]) for name, weight in weights('whole').items())
    # What learns by now has no momentum in the state.
    options['train'] |= {'freeze': ['conv_first'], 'total_iter': 8}
    assert main(['train', '-opt', write_options({**options, 'name': 'parts'}), '--auto_resume']) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert 'belongs to other networks or optimizers than the option file (train.freeze counts): loaded state' in told


@pytest.mark.parametrize('names, message', [
    (['conv_frist'], r"train.freeze: network_g has no 'conv_frist' \(did you mean 'conv_first'\?\); it has conv_first, "
     'body, conv_after_body, upsample, conv_last'),
    (['body.1'], "network_g has no 'body.1'"), (['conv'], "network_g has no 'conv'"),
    (['conv_first', 'body', 'conv_after_body', 'upsample', 'conv_last'], 'leaves network_g nothing to learn'),
    ('conv_first', r"train.freeze must be a list of names such as \[conv_first, body.0\], got 'conv_first'"),
    ([1], r'train.freeze must be a list of names .* got \[1\]')])
def test_names_that_cannot_be_frozen_are_refused(freezing, names, message):
    freezing['train']['freeze'] = names
    with pytest.raises(InputError, match=message):
        RestorationModel.check_options(freezing)


def test_a_misspelt_name_is_told_before_anything_is_written(options, write_options, workdir, capsys):
    options['model_type'], options['train']['freeze'] = 'RestorationModel', ['conv_frist']
    assert main(['train', '-opt', write_options(options)]) == 2
    assert "train.freeze: network_g has no 'conv_frist'" in capsys.readouterr().err.splitlines()[-1]
    assert not (workdir / 'experiments').exists()


def test_freeze_is_told_to_have_no_effect_in_a_model_that_does_not_know_it(options, write_options, capsys):
    options['train'] |= {'freeze': FROZEN, 'total_iter': 1}
    assert main(['train', '-opt', write_options(options)]) == 0
    assert "option 'train.freeze' has no effect with model_type SRModel" in capsys.readouterr().err
