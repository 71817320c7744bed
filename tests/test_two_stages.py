"""Both stages through BasicSR's own pipelines: hand-over, teacher, checkpoints, LQ-only test, two processes as one."""
from pathlib import Path

import cv2
import diffrwkvir_arch  # noqa: F401
import numpy as np
import pytest
import torch
from basicsr.data import build_dataset
from basicsr.utils.registry import ARCH_REGISTRY
from diffrwkvir_arch import cli
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.models.diffrwkvir_s2_model import refuse_unfit_pair
from diffrwkvir_arch.tools.pairs import write_pairs
from torch.utils.data import DataLoader
from two_stage_cases import NETWORK, basicsr, batch, options, run_model, train_both, weights


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A folder in which both stages were trained for four iterations."""
    root = tmp_path_factory.mktemp('two stages')
    rng = np.random.default_rng(0)
    # Smooth pictures: what a few iterations can learn something from.
    images = {name: np.kron(rng.integers(0, 255, (6, 6, 3)), np.ones((8, 8, 1))).astype(np.uint8) for name in 'abc'}
    write_pairs(images, root / 'data', 4)
    train_both(root, options)
    return root


@pytest.fixture
def root(trained, monkeypatch):
    monkeypatch.chdir(trained)
    return trained


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
def test_a_loss_or_gradient_that_is_not_finite_stops_before_the_weights_change(root, where, tmp_path):
    model = run_model(options(1, root))
    before = {k: v.clone() for k, v in model.net_g.state_dict().items()}
    data = batch()
    if where == 'loss':
        data['gt'][0, 0, 0, 0] = float('nan')
    else:
        model.net_g.restorer.conv.weight.register_hook(lambda grad: grad * float('inf'))
    model.feed_data(data)
    reason = r'l_pix is nan at iteration 7' if where == 'loss' else r'gradient norm is'
    with pytest.raises(InputError, match=reason + r'.*No state was saved before.*start again'):
        model.optimize_parameters(7)
    model.opt['path']['training_states'] = str(tmp_path)
    (tmp_path / '6.state').touch()
    with pytest.raises(InputError, match=reason + r'.*The last good state is in .*go on with --auto_resume'):
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


def test_two_results_of_one_name_are_refused_before_one_is_lost(root):
    folder = root / 'same'
    folder.mkdir()
    for name in ('a.png', 'a.jpg'):
        cv2.imwrite(str(folder / name), np.zeros((8, 8, 3), np.uint8))
    dataset = build_dataset({'name': 'same', 'type': 'SingleImageDataset', 'phase': 'test', 'dataroot_lq': str(folder)})
    with pytest.raises(InputError, match=r'a\.jpg and .*a\.png would both be saved as a; rename one'):
        run_model(options(1, root)).nondist_validation(DataLoader(dataset), 0, None, save_img=True)


@pytest.mark.parametrize('encoder, diffusion, forward, told', [
    (torch.nn.Linear(1, 1), {}, 'noise', 'encoder of Stage1 cannot be called as stage 2 calls it: too many positional'),
    (torch.nn.Bilinear(1, 1, 1), {}, 'lq', "Stage2 cannot be called as stage 2 calls it: got an unexpected keyword"),
    (torch.nn.Bilinear(1, 1, 1), None, 'noise', 'Stage2 has no diffusion; ')])
def test_a_pair_of_ones_own_that_does_not_fit_is_one_line(encoder, diffusion, forward, told):
    class Stage1(torch.nn.Module):
        restorer = None

    class Stage2(Stage1):
        def forward(self, lq):
            pass

    class Noisy(Stage2):
        def forward(self, lq, noise=None, return_prior=False):
            pass

    Noisy.__name__ = 'Stage2'
    first, second = Stage1(), (Noisy if forward == 'noise' else Stage2)()
    first.encoder = encoder
    if diffusion is not None:
        second.diffusion = diffusion
    with pytest.raises(InputError, match=told):
        refuse_unfit_pair(first, second)
