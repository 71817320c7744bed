"""Stage 3: two networks step apart, resume together and share GPUs; holes alone are judged; what is missing is told."""
import re

import inpainting_cases
import pytest
import torch
import two_stage_cases
from backbones import save_backbone
from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY
from checkpoint_cases import assert_same
from drawing import draw
from train_two_steps import two_steps
from two_stage_cases import basicsr, run_model, train_in_two_processes

from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.tools.pairs import write_pairs

ADAM = {'type': 'Adam', 'lr': 1e-3, 'betas': [0.9, 0.99]}
LOG = {'l_pix', 'l_percep', 'l_kd', 'l_g_gan', 'l_d_real', 'l_d_fake', 'out_d_real', 'out_d_fake'}


def options(root, stage2=two_stage_cases.options, **train):
    """A small option file of stage 3, made of stage 2's, as a dict."""
    opt = stage2(2, root, **train)
    opt |= {'name': 'gan', 'model_type': 'DiffRWKVIRGANModel',
            'network_d': {'type': 'UNetDiscriminatorSN', 'num_in_ch': 3, 'num_feat': 4}}
    opt['path'] |= {'pretrain_network_g': 'experiments/stage2/models/net_g_latest.pth', 'param_key_g': 'params_ema'}
    opt['train'] = {'perceptual_opt': {'type': 'LPIPSLoss', 'net': 'squeeze', 'weights': str(root / 'squeeze.pth')},
                    'gan_opt': {'type': 'GANLoss', 'gan_type': 'vanilla', 'loss_weight': 0.1}, 'optim_d': ADAM,
                    **opt['train']}
    return opt


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Folders for super-resolution and inpainting, each with images, both stages and a backbone for LPIPS."""
    sr, inpaint = tmp_path_factory.mktemp('sr'), tmp_path_factory.mktemp('inpaint')
    torch.manual_seed(0)
    two_stage_cases.write_stages(sr, two_stage_cases.NETWORK)
    two_stage_cases.write_stages(inpaint, inpainting_cases.NETWORK)
    write_pairs({str(number): draw(48, 48, number) for number in range(3)}, sr / 'data', 4)
    inpainting_cases.write_images(inpaint / 'gt')
    for root in (sr, inpaint):
        save_backbone('squeeze', root / 'squeeze.pth')
    return {'sr': sr, 'inpaint': inpaint}


@pytest.fixture
def root(folders, monkeypatch):
    monkeypatch.chdir(folders['sr'])
    return folders['sr']


def small(root, **train):
    """The model, with a batch."""
    torch.manual_seed(0)
    model = run_model(options(root, **train))
    model.feed_data(two_stage_cases.batch())
    return model


def copies(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def changed(net, before):
    """The parameters that differ; buffers move on their own."""
    return {name for name, value in net.named_parameters() if not torch.equal(value, before[name])}


def test_an_iteration_moves_both_networks_and_logs_every_loss(root):
    model = small(root)
    before = copies(model.net_g), copies(model.net_d), copies(model.net_g_ema)
    model.optimize_parameters(1)
    for net, old in zip((model.net_g, model.net_d, model.net_g_ema), before):
        assert len(changed(net, old)) > 0.9 * len(list(net.parameters()))
    assert set(model.log_dict) == LOG and all(torch.tensor(value).isfinite() for value in model.log_dict.values())


def test_neither_networks_losses_leave_gradients_in_the_other(root):
    model = small(root)
    step, seen = model.step, []

    def spy(label, *rest):
        losses = step(label, *rest)
        seen.append((label, *([p.grad if p.grad is None else p.grad.clone() for p in net.parameters()]
                              for net in (model.net_g, model.net_d))))
        return losses

    model.step = spy
    model.optimize_parameters(1)
    (first, of_g, of_d), (second, of_g_later, of_d_later) = seen
    assert (first, second) == ('g', 'd') and all(grad is None for grad in of_d)
    assert all(torch.equal(*pair) for pair in zip(of_g, of_g_later)) and any(grad.any() for grad in of_d_later)


@pytest.mark.parametrize('label', ['g', 'd'])
def test_each_network_gets_better_at_its_own_game_while_the_other_stands_still(root, label):
    still = {f'optim_{"d" if label == "g" else "g"}': {**ADAM, 'lr': 0.0}}
    model = small(root, pixel_opt={'type': 'L1Loss', 'loss_weight': 0.0}, perceptual_opt=None, **still)
    scores = []
    for iteration in range(1, 31):
        model.optimize_parameters(iteration)
        real, fake = model.log_dict['out_d_real'], model.log_dict['out_d_fake']
        scores.append(fake if label == 'g' else real - fake)
    assert scores[-1] > scores[0] + 0.05


def test_the_network_starts_from_stage_twos_average_and_the_teacher_from_stage_ones(root):
    model = run_model(options(root))
    stage1, stage2 = (two_stage_cases.weights(root, stage, 'params_ema') for stage in (1, 2))
    for net in (model.net_g, model.net_g_ema):
        assert all(torch.equal(value, stage2[name]) for name, value in net.state_dict().items())
    assert all(torch.equal(value, stage1[f'encoder.{name}']) for name, value in model.teacher.state_dict().items())


def test_the_network_waits_for_the_discriminator_as_long_as_the_options_say(root):
    model = small(root, net_d_init_iters=2, net_d_iters=2)
    moved = []
    for iteration in range(1, 7):
        before = copies(model.net_g), copies(model.net_g_ema), copies(model.net_d)
        model.optimize_parameters(iteration)
        pairs = zip((model.net_g, model.net_g_ema, model.net_d), before)
        moved.append([bool(changed(net, old)) for net, old in pairs])
    assert moved == [[iteration in (4, 6)] * 2 + [True] for iteration in range(1, 7)]


def test_a_bad_discriminator_stops_training_before_its_weights_change(root):
    model = small(root)
    before = copies(model.net_d)
    model.net_d.conv9.weight.register_hook(lambda grad: grad * float('nan'))
    with pytest.raises(InputError, match=r'gradient norm is nan at iteration 3.*lower train\.optim_d\.lr'):
        model.optimize_parameters(3)
    assert not changed(model.net_d, before)


def test_bf16_and_clipping_hold_for_both_networks(root):
    model = small(root, amp='bf16', clip_grad_norm=1e-3)
    dtypes = []
    model.net_d.conv1.register_forward_hook(lambda net, images, features: dtypes.append(features.dtype))
    model.optimize_parameters(1)
    assert dtypes == [torch.bfloat16] * 3 and set(model.log_dict) == LOG
    for net in (model.net_g, model.net_d):
        assert torch.stack([p.grad.norm() for p in net.parameters()]).norm() <= 1.001e-3


def test_resuming_continues_both_networks_bit_for_bit_and_stage_two_tests_the_result(root):
    for name, lengths in (('whole', [4]), ('halves', [2, 4])):
        for length in lengths:
            opt = options(root, iterations=length) | {'name': name}
            assert not basicsr('train', opt, root, '--auto_resume')
    for path in ('models/net_g_4.pth', 'models/net_d_4.pth', 'training_states/4.state'):
        whole, halves = (torch.load(root / 'experiments' / name / path) for name in ('whole', 'halves'))
        assert_same(whole, halves)
    log = ''.join(path.read_text() for path in (root / 'experiments/halves').glob('train_*.log'))
    assert 'Resuming training from epoch' in log
    lines = [line for line in log.splitlines() if 'lr:(' in line]
    assert lines and all(set(re.findall(r'(\w+_\w+): ', line)) >= LOG for line in lines)

    opt = two_stage_cases.options(2, root) | {'name': 'tested'}
    del opt['train'], opt['logger'], opt['datasets']['train']
    opt['path'] = {'pretrain_network_g': 'experiments/whole/models/net_g_latest.pth', 'param_key_g': 'params_ema'}
    opt['val'] |= {'save_img': True, 'suffix': None}
    assert not basicsr('test', opt, root)
    assert len(list((root / 'results/tested/visualization/val').glob('*.png'))) == 3


def test_of_inpainted_images_the_hole_alone_is_judged_and_known_pixels_are_learnt(folders, monkeypatch):
    monkeypatch.chdir(folders['inpaint'])
    opt = options(folders['inpaint'], stage2=inpainting_cases.options, known_weight=0.2)
    model = run_model(opt)
    lq, gt, mask = inpainting_cases.batch(height=24, width=24)
    model.feed_data({'lq': lq, 'gt': gt, 'mask': mask})
    judged, compared = [], []
    model.net_d.register_forward_pre_hook(lambda net, images: judged.append(images[0]))
    model.cri_perceptual.register_forward_pre_hook(lambda net, images: compared.append(images[0]))
    before = copies(model.net_g)
    model.optimize_parameters(1)
    known = (mask == 0).expand_as(lq)
    for image in (judged[0], judged[2], compared[0]):
        assert torch.equal(image[known], lq[known]) and torch.equal(image[~known], model.output[~known])
    assert torch.equal(judged[1], gt) and (model.output != lq)[known].all()
    assert changed(model.net_g, before) and set(model.log_dict) == LOG
    # The pixel loss pulls at known pixels too.
    weight = torch.where(mask == 1, 1.0, 0.2)
    error = weight * (model.output - gt).abs().mean(1, keepdim=True)
    means = error.sum((1, 2, 3)) / weight.sum((1, 2, 3))
    assert model.log_dict['l_pix'] == pytest.approx(means.mean().item(), rel=1e-5)


def test_inpainting_trains_and_validates_from_an_option_file(folders, monkeypatch):
    root = folders['inpaint']
    monkeypatch.chdir(root)
    opt = options(root, stage2=inpainting_cases.options)
    opt['datasets']['train']['gt_size'] = 24
    assert not basicsr('train', opt, root)
    log = next((root / 'experiments/gan').glob('train_*.log')).read_text()
    assert 'l_g_gan' in log and '# hole_psnr' in log


S2 = 'experiments/train_DiffRWKVIR_S2_x4/models/net_g_latest.pth'


@pytest.mark.parametrize('place, value, message', [
    ('path.pretrain_network_g', None, 'path.pretrain_network_g is missing: DiffRWKVIRGANModel starts from the '
     'checkpoint of stage 2, experiments/NAME/models/net_g_latest.pth'),
    ('path.pretrain_network_g', S2, f'path.pretrain_network_g: {S2} does not exist (seen from ROOT); stage 2 makes it: '
     'basicsr train -opt options/train_DiffRWKVIR_S2_x4.yml'),
    ('path.pretrain_network_s1', None, 'path.pretrain_network_s1 is missing'),
    ('network_d', None, 'missing option: network_d'),
    ('train.gan_opt', None, 'missing option: train.gan_opt'),
    ('train.optim_d', {'lr': 1e-4}, 'missing option: train.optim_d.type'),
    ('train.gan_opt.gan_type', 'vanila', 'train.gan_opt: GAN type vanila is not implemented. Choose from '
     'vanilla, lsgan'),
    ('train.net_d_iters', 0, 'train.net_d_iters must be a whole number of at least 1, got 0'),
    ('datasets.train.gt_size', 36, 'datasets.train.gt_size: 36 is not a multiple of 8, and UNetDiscriminatorSN halves '
     'patches three times; use 32 or 40'),
    ('network_d', {'type': 'VGGStyleDiscriminator', 'num_in_ch': 3, 'num_feat': 4}, 'network_d.input_size: 128 (128 or '
     '256) differs from datasets.train.gt_size: 32'),
    ('train.net_d_iter', 1, "unknown option 'train.net_d_iter' (did you mean 'net_d_iters'?)"),
    ('train.gan_op', {}, "unknown option 'train.gan_op' (did you mean 'gan_opt'?)"),
    ('network_d.num_feats', 4, "unknown option 'network_d.num_feats' (did you mean 'num_feat'?)"),
    ('network_dd', {'type': 'UNetDiscriminatorSN'}, "unknown option 'network_dd' (did you mean 'network_d'?)"),
    ('path.strict_load_dd', True, "unknown option 'path.strict_load_dd'"),
])
def test_what_is_missing_or_misspelt_is_told_before_anything_is_written(root, capsys, place, value, message):
    opt = options(root) | {'name': 'refused'}
    *sections, key = place.split('.')
    section = opt
    for name in sections:
        section = section[name]
    section[key] = value
    if value is None:
        del section[key]
    assert basicsr('train', opt, root) == 2
    assert message.replace('ROOT', str(root)) in capsys.readouterr().err and not (root / 'experiments/refused').exists()


def test_it_starts_from_the_weights_that_come_with_the_package(root):
    opt = options(root) | {'is_train': True}
    opt['path']['pretrain_network_g'] = 'DiffRWKVIR-tiny_x4.pth'
    MODEL_REGISTRY.get('DiffRWKVIRGANModel').check_options(opt)


def test_a_run_that_goes_on_needs_the_checkpoint_of_stage_two_no_more(root):
    opt = options(root) | {'is_train': True, 'auto_resume': True}
    opt['path']['pretrain_network_g'] = 'gone.pth'
    MODEL_REGISTRY.get('DiffRWKVIRGANModel').check_options(opt)


@pytest.mark.parametrize('place, told', [
    (None, 'path.pretrain_network_g is missing'), ('gone.pth', 'path.pretrain_network_g: gone.pth does not exist')])
def test_a_run_that_has_no_state_to_go_on_from_needs_it(root, capsys, place, told):
    opt = options(root) | {'name': 'begun'}
    opt['path']['pretrain_network_g'] = place
    assert basicsr('train', opt, root, '--auto_resume') == 2
    assert told in capsys.readouterr().err and not (root / 'experiments/begun').exists()


def test_a_trained_discriminator_is_taken_up_as_its_options_say(root):
    trained = ARCH_REGISTRY.get('UNetDiscriminatorSN')(3, 4).state_dict()
    torch.save({'mine': trained}, root / 'net_d.pth')
    opt = options(root)
    opt['path'] |= {'pretrain_network_d': str(root / 'net_d.pth'), 'strict_load_d': True, 'param_key_d': 'mine'}
    assert not changed(run_model(opt).net_d, trained)


def test_a_discriminator_without_effect_is_told(root, capsys):
    opt = two_stage_cases.options(2, root, iterations=1) | {'name': 'plain', 'network_d': options(root)['network_d']}
    assert not basicsr('train', opt, root)
    assert "option 'network_d' has no effect with model_type DiffRWKVIRS2Model" in capsys.readouterr().err


def sgd_options(root):
    sgd = {'type': 'SGD', 'lr': 0.1}
    return options(root, ema_decay=0, optim_g=sgd, optim_d=sgd)


def test_two_processes_train_both_networks_as_one_does(root, tmp_path):
    one, two = two_steps(sgd_options(root)), train_in_two_processes(__name__, tmp_path / 'two.pth')
    assert two['losses'] == pytest.approx(one['losses'], rel=1e-4)
    for label in ('net_g', 'net_d'):
        for key in one[label]:
            torch.testing.assert_close(two[label][key], one[label][key], atol=2e-6, rtol=1e-4)


def test_micro_batches_are_refused(root, capsys):
    assert basicsr('train', options(root, micro_batch_size_per_gpu=1), root) == 2
    assert 'train.micro_batch_size_per_gpu: the discriminator judges whole batches' in capsys.readouterr().err
