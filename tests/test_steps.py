"""A step is the same whoever makes it: one process or two, a batch in parts, a compiled network."""
from unittest import mock

import pytest
import torch
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import ARCH_REGISTRY
from torch.utils._python_dispatch import TorchDispatchMode
from train_two_steps import two_steps
from two_stage_cases import (NETWORK, basicsr, batch, options, run_model, train_in_two_processes, weights,
                             write_stages)


@pytest.fixture(scope='module')
def stages(tmp_path_factory):
    """A folder with the checkpoints of both stages."""
    folder = tmp_path_factory.mktemp('stages')
    torch.manual_seed(0)
    write_stages(folder, NETWORK)
    return folder


@pytest.fixture
def root(stages, monkeypatch):
    monkeypatch.chdir(stages)
    return stages


def sgd_options(root, stage=2):
    return options(stage, root, ema_decay=0, optim_g={'type': 'SGD', 'lr': 0.1})


def micro_batch_options(root, stage=2, size=1):
    opt = sgd_options(root, stage)
    opt['train']['micro_batch_size_per_gpu'] = size
    return opt


def test_two_processes_train_as_one_does(root, tmp_path):
    """Half the batch each, gradients averaged: the weights after two steps are those of one process, as the losses."""
    one, two = two_steps(sgd_options(root)), train_in_two_processes(__name__, tmp_path / 'two.pth')
    assert two['losses'] == pytest.approx(one['losses'], rel=1e-4)
    one, two = one['net_g'], two['net_g']
    start = weights(root, 1, 'params_ema')
    moved = 0
    for key in one:
        torch.testing.assert_close(two[key], one[key], atol=2e-6, rtol=1e-4)
        moved += key.startswith('restorer.') and not torch.equal(one[key], start[key])
    assert moved > 10


class ScalarReads(TorchDispatchMode):
    """Counts item() and its like, for each of which a GPU has to end what it does."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize('stage', [1, 2])
def test_a_step_waits_for_no_single_loss(root, stage):
    # Adam reads the number of its steps, which is in the computer's memory.
    model = run_model(options(stage, root, optim_g={'type': 'SGD', 'lr': 0.1}))
    model.feed_data(batch())
    with ScalarReads() as reads:
        model.optimize_parameters(1)
    assert reads.count == 0
    with ScalarReads() as reads:
        SRModel.reduce_loss_dict(model, {name: torch.tensor(value) for name, value in model.log_dict.items()})
    assert reads.count == stage


@pytest.mark.parametrize('stage, size', [(1, 3), (2, 1)])
def test_micro_batches_make_the_step_of_the_whole_batch(root, stage, size):
    seen, forward = [], ARCH_REGISTRY.get(f'DiffRWKVIRS{stage}').forward

    def watched(self, lq, *images, **options):
        seen.append(len(lq))
        return forward(self, lq, *images, **options)

    with mock.patch.object(ARCH_REGISTRY.get(f'DiffRWKVIRS{stage}'), 'forward', watched):
        one = two_steps(sgd_options(root, stage))['net_g']
        several = two_steps(micro_batch_options(root, stage, size))['net_g']
    assert seen == [4, 4] + 2 * ([3, 1] if size == 3 else [1, 1, 1, 1])
    start = weights(root, 1, 'params_ema')
    for key in one:
        torch.testing.assert_close(several[key], one[key], atol=2e-6, rtol=1e-4)
    assert sum(key in start and not torch.equal(one[key], start[key]) for key in one) > 10


def test_two_processes_take_micro_batches_as_one_takes_the_whole(root, tmp_path):
    one = two_steps(sgd_options(root))['net_g']
    two = train_in_two_processes(__name__, tmp_path / 'two.pth', 'micro_batch_options')['net_g']
    for key in one:
        torch.testing.assert_close(two[key], one[key], atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize('size', [0, 1.5, True])
def test_a_micro_batch_is_a_whole_number_of_images(root, capsys, size):
    assert basicsr('train', options(1, root, micro_batch_size_per_gpu=size), root) == 2
    assert 'train.micro_batch_size_per_gpu must be a whole number of at least 1' in capsys.readouterr().err


def test_several_gpus_of_one_process_take_a_micro_batch_each(root, monkeypatch):
    # There DataParallel only hands on.
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    model = run_model(options(1, root, micro_batch_size_per_gpu=2))
    model.net_g, model.opt['num_gpu'] = torch.nn.DataParallel(model.net_g), 2
    seen, forward = [], model.net_g.forward
    monkeypatch.setattr(model.net_g, 'forward', lambda lq, gt: seen.append(len(lq)) or forward(lq, gt))
    model.feed_data(batch(6))
    model.accumulate_gradients()
    assert seen == [4, 2]


def test_micro_batches_of_a_loss_that_is_a_sum_are_refused(root, capsys):
    train = {'pixel_opt': {'type': 'L1Loss', 'reduction': 'sum'}, 'micro_batch_size_per_gpu': 1}
    assert basicsr('train', options(1, root, **train), root) == 2
    assert 'train.pixel_opt.reduction: sum does not go with train.micro_batch_size_per_gpu' in capsys.readouterr().err


@pytest.mark.parametrize('stage', [1, 2])
def test_a_compiled_network_is_traced_whole_and_makes_the_same_steps(root, monkeypatch, stage):
    compile_module, graphs = torch.nn.Module.compile, []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    # The real backend takes a minute to compile.
    monkeypatch.setattr(torch.nn.Module, 'compile', lambda self: compile_module(self, backend=backend, fullgraph=True))

    def steps(**train):
        torch.manual_seed(0)
        model = run_model(options(stage, root, **train))
        for iteration in (1, 2):
            torch.manual_seed(iteration)
            model.feed_data(batch())
            model.optimize_parameters(iteration)
        return model.log_dict, model.net_g.state_dict()

    (losses, plain), (compiled_losses, compiled) = steps(), steps(compile=True)
    assert len(graphs) == 1 and compiled_losses == pytest.approx(losses, rel=1e-5)
    for key in plain:
        torch.testing.assert_close(compiled[key], plain[key])


def test_compile_is_true_or_false(root, capsys):
    assert basicsr('train', options(1, root, compile='max-autotune'), root) == 2
    assert "train.compile must be true or false, got 'max-autotune'" in capsys.readouterr().err
