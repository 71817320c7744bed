"""DiffIR: the official code's names, shapes and outputs; both stages train through our two-stage models."""
import hashlib
from pathlib import Path

import diffrwkvir_arch  # noqa: F401
import numpy as np
import pytest
import torch
import yaml
from diffrwkvir_arch.archs.diffir_arch import DiffIRS1, DiffIRS2
from peer_cases import normal_weights
from two_stage_cases import batch, run_model
from two_stage_cases import options as two_stage_options

TINY = dict(n_encoder_res=1, dim=8, num_blocks=[1, 1, 1, 1], num_refinement_blocks=1)
OPTIONS = Path(__file__).parent.parent / 'options'


def tiny(arch, **options):
    torch.manual_seed(0)
    return arch(**{**TINY, **options})


def official_size(arch):
    """The official x4 network without memory for its weights."""
    with torch.device('meta'):
        return arch()


@pytest.mark.parametrize('arch, parameters, count, digest', [
    (DiffIRS1, 24_801_478, 547, 'eb12b0e6863884df'), (DiffIRS2, 24_971_206, 615, '8868458b0547791e')])
def test_the_state_dict_has_the_official_names_and_shapes(arch, parameters, count, digest):
    """Count and digest were taken from the official code's networks."""
    net = official_size(arch)
    entries = sorted(f'{name} {tuple(value.shape)}' for name, value in net.state_dict().items())
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert len(entries) == count
    assert hashlib.sha256('\n'.join(entries).encode()).hexdigest()[:16] == digest


def test_the_names_are_those_of_published_checkpoints():
    state = official_size(DiffIRS2).state_dict()
    for name, shape in {
            'G.patch_embed.proj.weight': (64, 3, 3, 3), 'G.encoder_level1.12.attn.temperature': (1, 1, 1),
            'G.latent.0.ffn.kernel.0.weight': (1024, 256), 'G.refinement.12.norm2.body.weight': (128, ),
            'G.tail.0.2.weight': (512, 128, 3, 3), 'condition.E.2.body.2.bias': (64, ), 'diffusion.betas': (4, ),
            'denoise.resmlp.2.resmlp.0.weight': (256, 256), 'diffusion.model.resmlp.0.weight': (256, 513),
            'diffusion.condition.mlp.2.bias': (256, )}.items():
        assert tuple(state[name].shape) == shape
    assert official_size(DiffIRS1).state_dict()['E.E.0.weight'].shape == (64, 3 + 3 * 16, 3, 3)


# Six pixels of what the official code returns, in float64, for the same weights, images and noise; sizes that are no
# multiple of 8 were padded by its test code.
OFFICIAL_OUTPUT = [
    (1, False, 'BiasFree', [2.360615, -4.295467, 4.015327, -7.223829, 2.310975, 1.106928],
     [-0.439679, -1.223821, 1.741253, -1.849747, 0.677102, -0.845956]),
    (2, True, 'WithBias', [2.111638, 5.355337, 4.703298, 6.616725, 2.336424, 5.27969],
     [0.810483, 4.566897, 0.514449, 4.573774, 0.780316, 4.380126]),
    (3, False, 'BiasFree', [0.149129, -0.099538, 0.138409, -1.262478, -0.010709, -0.014395],
     [0.122143, 0.952458, 0.252593, 2.278865, 0.54785, 0.396008]),
    (4, False, 'BiasFree', [1.166494, 1.758457, 1.126833, 1.182363, 0.821027, 1.647342],
     [0.246024, 0.684452, 1.201622, -0.630983, 0.433664, 0.21876]),
]


@pytest.mark.parametrize('scale, bias, norm, stage1, stage2', OFFICIAL_OUTPUT)
def test_both_stages_return_what_the_official_code_returns(scale, bias, norm, stage1, stage2):
    random = np.random.RandomState(1)
    lq, gt = (torch.from_numpy(random.random_sample((2, 3, 9 * factor, 14 * factor))) for factor in (1, scale))
    noise = torch.from_numpy(np.random.RandomState(2).standard_normal((2, 256)))
    options = dict(scale=scale, bias=bias, LayerNorm_type=norm)
    with torch.no_grad():
        outputs = (normal_weights(tiny(DiffIRS1, **options))(lq, gt),
                   normal_weights(tiny(DiffIRS2, **options))(lq, noise))
    for output, expected in zip(outputs, (stage1, stage2)):
        pixels = output[:, :, ::8 * scale, ::9 * scale].mean(1).flatten()[:6]
        torch.testing.assert_close(pixels, torch.tensor(expected, dtype=torch.float64), atol=2e-6, rtol=0)


def test_the_schedule_is_linear_in_the_root_of_beta():
    roots = DiffIRS2(**TINY).diffusion.betas.sqrt()
    torch.testing.assert_close(roots, torch.linspace(0.1**0.5, 0.99**0.5, 4))


@pytest.mark.parametrize('scale', [1, 2, 3, 4])
@pytest.mark.parametrize('height, width', [(1, 1), (5, 2), (8, 17)])
def test_any_size_comes_back_scaled_and_uncropped_in_both_stages(scale, height, width):
    lq, gt = torch.rand(2, 3, height, width), torch.rand(2, 3, scale * height, scale * width)
    assert tiny(DiffIRS1, scale=scale)(lq, gt).shape == gt.shape
    assert tiny(DiffIRS2, scale=scale)(lq).shape == gt.shape


@pytest.mark.parametrize('arch', [DiffIRS1, DiffIRS2])
def test_gradients_reach_every_parameter(arch):
    net, lq, gt = tiny(arch), torch.rand(2, 3, 8, 8), torch.rand(2, 3, 32, 32)
    output = net(lq, gt) if arch is DiffIRS1 else net(lq)
    (output - gt).abs().mean().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_forward_is_extract_prior_and_restore_in_training_and_in_evaluation():
    net, lq, noise = tiny(DiffIRS2), torch.rand(2, 3, 8, 6), torch.randn(2, 256)
    restored, prior = net.train()(lq, noise, return_prior=True)
    assert prior.shape == (2, 256)
    assert torch.equal(prior, net.eval().extract_prior(lq, noise))
    assert torch.equal(restored, net(lq, noise)) and torch.equal(restored, net.restore(lq, prior))


def test_noise_changes_the_result_and_is_drawn_from_torchs_generator_where_none_is_given():
    net, lq = tiny(DiffIRS2), torch.rand(1, 3, 8, 8)
    assert not torch.equal(net(lq, torch.zeros(1, 256)), net(lq, torch.ones(1, 256)))
    torch.manual_seed(3)
    first, second = net(lq), net(lq)
    torch.manual_seed(3)
    assert torch.equal(net(lq, torch.randn(1, 256)), first) and not torch.equal(first, second)


def test_the_prior_changes_the_restored_image():
    net, lq = tiny(DiffIRS1), torch.rand(1, 3, 8, 8)
    priors = [net.extract_prior(lq, gt) for gt in (torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32))]
    assert not torch.equal(*(net.restore(lq, prior) for prior in priors))


def test_gt_of_another_size_is_refused_with_both_sizes():
    with pytest.raises(ValueError, match=r'4 times.*, 32, 32\).*, 30, 30\)'):
        tiny(DiffIRS1)(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 30, 30))


@pytest.mark.parametrize('option, value', [
    ('scale', 5), ('inp_channels', 4), ('LayerNorm_type', 'biasfree'), ('heads', [1, 2, 4, 7]), ('heads', [1]),
    ('dim', 7), ('num_blocks', [1, 1]), ('timesteps', 0), ('linear_end', 1.5)])
def test_an_impossible_option_is_refused_by_name(option, value):
    with pytest.raises(ValueError, match=option):
        tiny(DiffIRS2, **{option: value})


def test_noise_of_another_shape_is_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r'\(2, 256\).*\(2, 64\)'):
        tiny(DiffIRS2)(torch.rand(2, 3, 8, 8), torch.rand(2, 64))


def two_steps(stage, root, **path):
    """A tiny model of one stage after two training steps."""
    opt = two_stage_options(stage, root)
    opt['network_g'] = {'type': f'DiffIRS{stage}', **TINY}
    opt['path'] |= path
    model = run_model(opt)
    start = {name: value.clone() for name, value in model.net_g.state_dict().items()}
    for step in (1, 2):
        model.feed_data(batch())
        model.optimize_parameters(step)
    return model, start


def test_stage_two_starts_from_stage_one_and_trains_all_of_itself(tmp_path):
    stage1, _ = two_steps(1, tmp_path)
    trained = {name: value.clone() for name, value in stage1.net_g_ema.state_dict().items()}
    torch.save({'params_ema': trained}, tmp_path / 'stage1.pth')
    stage2, start = two_steps(2, tmp_path, pretrain_network_s1=str(tmp_path / 'stage1.pth'))
    for name, value in trained.items():
        if name.startswith('G.'):
            assert torch.equal(start[name], value)
    assert all(torch.equal(value, trained[f'E.{name}']) for name, value in stage2.teacher.state_dict().items())
    assert set(stage2.log_dict) == {'l_pix', 'l_kd'} and all(np.isfinite(list(stage2.log_dict.values())))
    assert [name for name, p in stage2.net_g.named_parameters() if torch.equal(p, start[name])] == []
    stage2.feed_data({'lq': torch.rand(1, 3, 5, 7)})
    stage2.test()
    assert stage2.output.shape == (1, 3, 20, 28)


@pytest.mark.parametrize('stage', ['S1', 'S2'])
def test_swapping_network_g_turns_our_training_into_diffirs(stage):
    ours, diffir = (yaml.safe_load((OPTIONS / f'train_{name}_{stage}_x4.yml').read_text(encoding='utf-8'))
                    for name in ('DiffRWKVIR', 'DiffIR'))
    for key in ('model_type', 'datasets', 'train', 'val', 'logger', 'scale'):
        assert ours[key] == diffir[key]
