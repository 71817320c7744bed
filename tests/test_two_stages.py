"""Both stages through BasicSR's own pipelines: hand-over, teacher, checkpoints, LQ-only test, two processes as one."""
import subprocess
import sys
from pathlib import Path
from unittest import mock

import cv2
import diffrwkvir_arch  # noqa: F401
import numpy as np
import pytest
import torch
import yaml
from basicsr.data import build_dataset
from basicsr.models import build_model
from basicsr.utils.registry import ARCH_REGISTRY
from diffrwkvir_arch import cli
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.tools.pairs import write_pairs
from torch.utils.data import DataLoader
from train_two_steps import two_steps

NETWORK = dict(scale=4, dim=16, groups=1, blocks=1, head_dim=4, prior_dim=16, encoder_dim=8, upsampler='direct')


def options(stage, root, iterations=4, **train):
    """A small option file of one stage as a dict, on the pairs below root/data."""
    pairs = {'type': 'PairedImageDataset', 'dataroot_gt': str(root / 'data/GT'), 'dataroot_lq': str(root / 'data/LQ'),
             'io_backend': {'type': 'disk'}}
    opt = {
        'name': f'stage{stage}', 'model_type': f'DiffRWKVIRS{stage}Model', 'scale': 4, 'num_gpu': 0, 'manual_seed': 0,
        'datasets': {
            'train': {'name': 'train', **pairs, 'gt_size': 32, 'use_hflip': True, 'use_rot': True,
                      'num_worker_per_gpu': 0, 'batch_size_per_gpu': 2, 'dataset_enlarge_ratio': 4},
            'val': {'name': 'val', **pairs}},
        'network_g': {'type': f'DiffRWKVIRS{stage}', **NETWORK},
        'path': {'pretrain_network_g': None, 'strict_load_g': True, 'resume_state': None},
        'train': {'ema_decay': 0.9, 'optim_g': {'type': 'Adam', 'lr': 1e-3, 'betas': [0.9, 0.99]},
                  'scheduler': {'type': 'MultiStepLR', 'milestones': [1000], 'gamma': 0.1},
                  'total_iter': iterations, 'warmup_iter': -1, 'pixel_opt': {'type': 'L1Loss'}, **train},
        'val': {'val_freq': 1000, 'save_img': False, 'metrics': {
            'psnr': {'type': 'calculate_psnr', 'crop_border': 4, 'test_y_channel': True}}},
        'logger': {'print_freq': 1, 'save_checkpoint_freq': 2, 'use_tb_logger': True},
    }
    if stage == 2:
        opt['path']['pretrain_network_s1'] = 'experiments/stage1/models/net_g_latest.pth'
        opt['train'].setdefault('kd_opt', {'type': 'KDL1Loss', 'loss_weight': 0.1})
    return opt


def basicsr(verb, opt, root, *flags):
    """Runs a verb in this process from the folder root; -> exit code."""
    path = root / f'{verb}_{opt["name"]}.yml'
    path.write_text(yaml.safe_dump(opt), encoding='utf-8')
    return cli.main([verb, '-opt', str(path), *flags])


def weights(root, stage, key='params', label='latest'):
    return torch.load(root / f'experiments/stage{stage}/models/net_g_{label}.pth')[key]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A folder in which both stages were trained for four iterations."""
    root = tmp_path_factory.mktemp('two stages')
    rng = np.random.default_rng(0)
    # Smooth pictures: what a few iterations can learn something from.
    images = {name: np.kron(rng.integers(0, 255, (6, 6, 3)), np.ones((8, 8, 1))).astype(np.uint8) for name in 'abc'}
    write_pairs(images, root / 'data', 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for stage in (1, 2):
            assert not basicsr('train', options(stage, root), root)
    return root


@pytest.fixture
def root(trained, monkeypatch):
    monkeypatch.chdir(trained)
    return trained


def run_model(opt, is_train=True):
    """A model of the option dict, as the pipelines build it."""
    opt = {**opt, 'is_train': is_train, 'dist': False, 'rank': 0, 'world_size': 1}
    opt['path'] = {**opt['path'], 'models': 'unused', 'training_states': 'unused'}
    for dataset in opt['datasets'].values():
        dataset.setdefault('phase', 'train')
    return build_model(opt)


def batch(n=2):
    torch.manual_seed(5)
    return {'lq': torch.rand(n, 3, 8, 8), 'gt': torch.rand(n, 3, 32, 32), 'lq_path': ['x'] * n}


def test_both_stages_leave_checkpoints_states_log_and_tensorboard(root):
    for stage in (1, 2):
        folder = root / f'experiments/stage{stage}'
        assert {p.name for p in (folder / 'models').iterdir()} == {'net_g_2.pth', 'net_g_4.pth', 'net_g_latest.pth'}
        assert {p.name for p in (folder / 'training_states').iterdir()} == {'2.state', '4.state'}
        assert list(folder.glob('train_*.log'))
        assert list((root / f'tb_logger/stage{stage}').iterdir())


def test_every_log_line_of_stage_two_names_both_losses(root):
    log = next((root / 'experiments/stage2').glob('train_*.log')).read_text()
    lines = [line for line in log.splitlines() if 'iter:' in line and '[epoch' in line]
    assert len(lines) == 4 and all('l_pix' in line and 'l_kd' in line for line in lines)


def test_the_teacher_is_not_saved_with_the_network(root):
    keys = weights(root, 2).keys()
    assert keys == ARCH_REGISTRY.get('DiffRWKVIRS2')(**NETWORK).state_dict().keys()
    assert {key.split('.')[0] for key in keys} == {'condition', 'diffusion', 'restorer'}


def test_the_moving_average_keeps_its_decay_of_what_it_was_and_is_what_is_tested(root):
    model = run_model(options(1, root, ema_decay=0.75))
    before = [parameter.clone() for parameter in model.net_g.parameters()]
    model.feed_data(batch())
    model.optimize_parameters(1)
    for average, old, new in zip(model.net_g_ema.parameters(), before, model.net_g.parameters(), strict=True):
        torch.testing.assert_close(average, 0.75 * old + 0.25 * new)
    model.test()
    with torch.no_grad():
        average, trained = (net(model.lq, model.gt) for net in (model.net_g_ema, model.net_g))
    assert torch.equal(model.output, average) and not torch.equal(average, trained)


def test_stage_two_starts_from_stage_ones_restorer_and_teacher(root):
    model = run_model(options(2, root))
    stage1 = weights(root, 1, 'params_ema')
    for part, prefix in ((model.net_g.restorer, 'restorer.'), (model.net_g_ema.restorer, 'restorer.'),
                         (model.teacher, 'encoder.')):
        for name, value in part.state_dict().items():
            assert torch.equal(value, stage1[prefix + name])


def test_the_teachers_weights_are_those_that_the_options_name(root):
    opt = options(2, root)
    opt['path']['param_key_s1'] = 'params'
    model, stage1 = run_model(opt), weights(root, 1)
    assert all(torch.equal(value, stage1[f'encoder.{name}']) for name, value in model.teacher.state_dict().items())


def test_in_training_the_chain_starts_from_the_teachers_prior_diffused(root):
    model, seen = run_model(options(2, root)), []
    model.net_g.register_forward_pre_hook(lambda net, images, named: seen.append(named['noise']), with_kwargs=True)
    model.feed_data(batch())
    torch.manual_seed(3)
    _, target = model.run_network()
    torch.manual_seed(3)
    alpha_bar = model.net_g.diffusion.alpha_bar[-1]
    torch.testing.assert_close(seen[0], alpha_bar**0.5 * target + (1 - alpha_bar)**0.5 * torch.randn_like(target))


def test_the_teacher_is_frozen_and_in_eval_mode(root):
    model = run_model(options(2, root))
    before = {k: v.clone() for k, v in model.teacher.state_dict().items()}
    model.feed_data(batch())
    model.optimize_parameters(1)
    assert not model.teacher.training and not any(p.requires_grad for p in model.teacher.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.teacher.state_dict().items())
    assert set(model.log_dict) == {'l_pix', 'l_kd'}


def test_distillation_draws_the_prior_to_the_teachers(root):
    opt = options(2, root, pixel_opt={'type': 'L1Loss', 'loss_weight': 0.0})
    model = run_model(opt)
    model.feed_data(batch())
    losses = []
    for step in range(1, 41):
        model.optimize_parameters(step)
        losses.append(model.log_dict['l_kd'])
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def test_stage_two_without_stage_one_names_the_command_that_makes_it(root, capsys):
    opt = options(2, root)
    opt['name'] = 'orphan'
    opt['path']['pretrain_network_s1'] = 'experiments/train_DiffRWKVIR_S1_x4/models/net_g_latest.pth'
    assert basicsr('train', opt, root) == 2
    error = capsys.readouterr().err
    assert 'basicsr train -opt options/train_DiffRWKVIR_S1_x4.yml' in error and 'Traceback' not in error
    assert not (root / 'experiments/orphan').exists()


@pytest.mark.parametrize('network', [{'type': 'DiffRWKVIRS1', **NETWORK}, {'type': 'EDSR', 'num_in_ch': 3,
                                                                           'num_out_ch': 3, 'upscale': 4}])
def test_stage_two_of_a_network_that_is_none_is_refused_by_its_name(root, capsys, network):
    assert basicsr('train', {**options(2, root), 'name': 'none', 'network_g': network}, root) == 2
    assert f'network_g.type: {network["type"]} is no second stage, whose name ends in S2' in capsys.readouterr().err
    assert not Path('experiments/none').exists()


def test_the_shipped_stage_two_asks_for_stage_one_before_it_asks_for_data(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(['train', '-opt', 'options/train_DiffRWKVIR_S2_x4.yml']) == 2
    assert 'basicsr train -opt options/train_DiffRWKVIR_S1_x4.yml' in capsys.readouterr().err


def test_stage_one_of_another_width_is_refused_in_one_line(root, capsys):
    opt = options(2, root)
    opt['name'] = 'wider'
    opt['network_g']['dim'] = 24
    assert basicsr('train', opt, root) == 2
    assert 'net_g_latest.pth' in capsys.readouterr().err


def test_stage_two_tests_lq_images_without_gt(root):
    opt = options(2, root)
    del opt['train'], opt['logger'], opt['path']['pretrain_network_s1']
    opt['name'] = 'lq_only'
    opt['datasets'] = {'test': {'name': 'own', 'type': 'SingleImageDataset', 'dataroot_lq': str(root / 'data/LQ'),
                                'io_backend': {'type': 'disk'}}}
    opt['path'] |= {'pretrain_network_g': 'experiments/stage2/models/net_g_latest.pth', 'param_key_g': 'params_ema'}
    opt['val'] |= {'save_img': True, 'suffix': None}
    assert not basicsr('test', opt, root)
    assert len(list((root / 'results/lq_only/visualization/own').glob('*.png'))) == 3


def test_stage_one_without_gt_says_what_to_use(root):
    model = run_model(options(1, root))
    with pytest.raises(InputError, match='PairedImageDataset'):
        model.feed_data({'lq': torch.rand(1, 3, 8, 8)})


def test_resuming_continues_with_the_saved_weights_and_optimizer(root):
    opt = options(1, root, iterations=6)
    opt['datasets']['train']['num_worker_per_gpu'] = 0    # workers' crops are drawn anew
    assert not basicsr('train', {**opt, 'name': 'whole'}, root)
    opt['name'] = 'resumed'
    assert not basicsr('train', {**opt, 'train': {**opt['train'], 'total_iter': 4}}, root)
    assert not basicsr('train', opt, root, '--auto_resume')
    whole, resumed = (torch.load(root / f'experiments/{name}/models/net_g_6.pth')['params']
                      for name in ('whole', 'resumed'))
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


@pytest.mark.parametrize('where', ['loss', 'gradient'])
def test_a_loss_or_gradient_that_is_not_finite_stops_before_the_weights_change(root, where):
    model = run_model(options(1, root))
    before = {k: v.clone() for k, v in model.net_g.state_dict().items()}
    data = batch()
    if where == 'loss':
        data['gt'][0, 0, 0, 0] = float('nan')
    else:
        model.net_g.restorer.conv.weight.register_hook(lambda grad: grad * float('inf'))
    model.feed_data(data)
    with pytest.raises(InputError, match=r'l_pix is nan at iteration 7' if where == 'loss' else r'gradient norm is'):
        model.optimize_parameters(7)
    assert all(torch.equal(v, before[k]) for k, v in model.net_g.state_dict().items())


def test_bf16_training_takes_a_finite_step(root):
    model = run_model(options(2, root, amp='bf16'))
    model.feed_data(batch())
    model.optimize_parameters(1)
    assert all(np.isfinite(value) for value in model.log_dict.values())
    with pytest.raises(InputError, match='train.amp'):
        run_model(options(2, root, amp='fp17'))


def test_gradients_are_clipped_to_the_wanted_norm(root):
    model = run_model(options(1, root, clip_grad_norm=1e-3))
    model.feed_data(batch())
    model.optimize_parameters(1)
    norm = torch.stack([p.grad.norm() for p in model.net_g.parameters()]).norm()
    assert norm <= 1.001e-3


def test_a_network_with_windows_tests_any_size(root):
    opt = options(1, root)
    opt |= {'model_type': 'RestorationModel', 'network_g': {
        'type': 'SwinIR', 'upscale': 4, 'img_size': 8, 'window_size': 4, 'depths': [1], 'embed_dim': 12,
        'num_heads': [2], 'mlp_ratio': 2, 'upsampler': 'pixelshuffledirect', 'img_range': 1.}}
    model = run_model(opt)
    for size in ((5, 7), (1, 2)):
        model.feed_data({'lq': torch.rand(1, 3, *size)})
        model.test()
        assert model.output.shape == (1, 3, 4 * size[0], 4 * size[1])


def test_a_network_that_pads_inside_sees_the_image_as_it_is(root):
    opt = options(1, root)
    opt |= {'model_type': 'RestorationModel', 'network_g': {
        'type': 'MambaIRv2', 'upscale': 4, 'window_size': 4, 'depths': [1], 'embed_dim': 12, 'num_heads': [2],
        'upsampler': 'pixelshuffledirect'}}
    model = run_model(opt)
    seen = []
    model.net_g.register_forward_pre_hook(lambda net, inputs: seen.append(inputs[0].shape))
    model.net_g_ema.register_forward_pre_hook(lambda net, inputs: seen.append(inputs[0].shape))
    model.feed_data({'lq': torch.rand(1, 3, 5, 7)})
    model.test()
    assert seen == [(1, 3, 5, 7)] and model.output.shape == (1, 3, 20, 28)


def sgd_options(root, stage=2):
    return options(stage, root, ema_decay=0, optim_g={'type': 'SGD', 'lr': 0.1})


def micro_batch_options(root, stage=2, size=1):
    opt = sgd_options(root, stage)
    opt['train']['micro_batch_size_per_gpu'] = size
    return opt


def train_in_two_processes(module, path, function='sgd_options'):
    """The weights that two processes leave after two steps; see train_two_steps.py."""
    script = Path(__file__).parent / 'train_two_steps.py'
    subprocess.run([sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', str(script),
                    str(path), module, function], check=True, capture_output=True)
    return torch.load(path)


def test_two_processes_train_as_one_does(root, tmp_path):
    """Half the batch each, gradients averaged: the weights after two steps are those of one process."""
    one, two = two_steps(sgd_options(root))['net_g'], train_in_two_processes(__name__, tmp_path / 'two.pth')['net_g']
    start = weights(root, 1, 'params_ema')
    moved = 0
    for key in one:
        torch.testing.assert_close(two[key], one[key], atol=2e-6, rtol=1e-4)
        moved += key.startswith('restorer.') and not torch.equal(one[key], start[key])
    assert moved > 10


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


def test_two_results_of_one_name_are_refused_before_one_is_lost(root):
    folder = root / 'same'
    folder.mkdir()
    for name in ('a.png', 'a.jpg'):
        cv2.imwrite(str(folder / name), np.zeros((8, 8, 3), np.uint8))
    dataset = build_dataset({'name': 'same', 'type': 'SingleImageDataset', 'phase': 'test', 'dataroot_lq': str(folder)})
    with pytest.raises(InputError, match=r'a\.jpg and .*a\.png would both be saved as a; rename one'):
        run_model(options(1, root)).nondist_validation(DataLoader(dataset), 0, None, save_img=True)
