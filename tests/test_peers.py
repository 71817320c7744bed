"""HAT, EDSR, RCAN, SRCNN, VDSR: sizes, names and initialisation as published; all share our data and recipe."""
import ast
import hashlib
import math
import sys
from pathlib import Path

import diffrwkvir_arch  # noqa: F401
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from basicsr.archs import build_network
from basicsr.utils.registry import ARCH_REGISTRY
from diffrwkvir_arch.archs.srcnn_arch import SRCNN
from diffrwkvir_arch.archs.vdsr_arch import VDSR
from diffrwkvir_arch.errors import InputError
from peer_cases import normal_weights
from two_stage_cases import batch, run_model
from two_stage_cases import options as two_stage_options

OPTIONS = Path(__file__).parent.parent / 'options'
TINY = {
    'HAT': dict(img_size=16, embed_dim=8, depths=[2], num_heads=[2], window_size=4, compress_ratio=2, squeeze_factor=2),
    'EDSR': dict(num_in_ch=3, num_out_ch=3, num_feat=8, num_block=1),
    'RCAN': dict(num_in_ch=3, num_out_ch=3, num_feat=8, num_group=1, num_block=1, squeeze_factor=2),
    'SRCNN': dict(num_in_ch=3, num_out_ch=3),
    'VDSR': dict(num_in_ch=3, num_out_ch=3, num_feat=8, num_conv=3),
}


def load(path):
    return yaml.safe_load(path.read_text(encoding='utf-8'))


def official(name):
    """The network of a shipped option file."""
    return build_network(load(OPTIONS / f'train_{name}_x4.yml')['network_g'])


def tiny(name, **options):
    if name == 'HAT':
        pytest.importorskip('spandrel')
    torch.manual_seed(0)
    return build_network({'type': name, 'upscale': 4, **TINY[name], **options})


@pytest.mark.parametrize('name, parameters', [
    ('EDSR', 43_089_947 - 24), ('RCAN', 15_592_379 - 24), ('SRCNN', 69_251), ('VDSR', 668_227)])
def test_the_option_files_build_the_published_sizes(name, parameters):
    """EDSR and RCAN count 24 fixed weights that shift the mean, too; SRCNN and VDSR are counted by hand."""
    with torch.device('meta'):
        assert sum(p.numel() for p in official(name).parameters()) == parameters


@pytest.mark.parametrize('name, parameters, digest', [
    ('HAT', 20_772_507, 'b8f2410a413098e0'), ('HAT-S', 9_621_183, 'f3daab0168d977e7')])
def test_hats_state_dict_has_the_official_names_and_shapes(name, parameters, digest):
    """The digest is of spandrel 0.4.2's network, whose modules are those of the official code."""
    pytest.importorskip('spandrel')
    net = official(name)
    entries = sorted(f'{name} {tuple(value.shape)}' for name, value in net.state_dict().items())
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert len(entries) == 864
    assert hashlib.sha256('\n'.join(entries).encode()).hexdigest()[:16] == digest


def test_hats_names_are_those_of_the_official_code():
    pytest.importorskip('spandrel')
    state = official('HAT').state_dict()
    for name, shape in {
            'relative_position_index_SA': (256, 256), 'relative_position_index_OCA': (256, 576),
            'patch_embed.norm.weight': (180, ), 'layers.5.conv.weight': (180, 180, 3, 3),
            'layers.5.residual_group.blocks.5.attn.relative_position_bias_table': (961, 6),
            'layers.5.residual_group.blocks.5.conv_block.cab.3.attention.1.weight': (6, 180, 1, 1),
            'layers.0.residual_group.overlap_attn.relative_position_bias_table': (1521, 6),
            'layers.0.residual_group.overlap_attn.mlp.fc1.weight': (360, 180), 'conv_after_body.bias': (180, ),
            'conv_before_upsample.0.weight': (64, 180, 3, 3), 'upsample.2.weight': (256, 64, 3, 3),
            'conv_last.weight': (3, 64, 3, 3)}.items():
        assert tuple(state[name].shape) == shape


def test_hats_defaults_are_its_option_file():
    pytest.importorskip('spandrel')
    default, shipped = ARCH_REGISTRY.get('HAT')(), official('HAT')
    assert default.hyperparameters == shipped.hyperparameters | {
        key: tuple(shipped.hyperparameters[key]) for key in ('depths', 'num_heads')}


def test_without_spandrel_hat_says_what_to_install(monkeypatch):
    for module in [name for name in sys.modules if name.split('.')[0] == 'spandrel']:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, 'spandrel', None)
    with pytest.raises(InputError, match=r"^HAT needs .*pip install 'diffrwkvir\[peers\]'.*$"):
        ARCH_REGISTRY.get('HAT')()


def test_the_plugin_imports_spandrel_only_to_build_hat():
    for path in (OPTIONS.parent / 'diffrwkvir_arch').rglob('*.py'):
        top = ast.parse(path.read_text(encoding='utf-8')).body
        imports = [ast.unparse(node) for node in top if isinstance(node, (ast.Import, ast.ImportFrom))]
        assert not any('spandrel' in line for line in imports), path


def test_hats_output_for_given_weights_is_that_of_spandrels_port():
    """Of spandrel 0.4.2, in float64; another release that computes something else is caught here."""
    net = normal_weights(tiny('HAT', upscale=2)).eval()
    output = net(torch.from_numpy(np.random.RandomState(1).random_sample((1, 3, 5, 7))))
    expected = [2.482532, -0.722519, 2.146807, 1.108524, 2.344392, -0.354675]
    torch.testing.assert_close(output.flatten()[:42:7], output.new_tensor(expected), atol=2e-6, rtol=0)


@pytest.mark.parametrize('name', TINY)
def test_a_training_step_changes_every_parameter(name, tmp_path):
    if name == 'HAT':
        pytest.importorskip('spandrel')
    opt = two_stage_options(1, tmp_path)
    opt |= {'model_type': 'RestorationModel', 'network_g': {'type': name, 'upscale': 4, **TINY[name]}}
    model = run_model(opt)
    start = {key: value.clone() for key, value in model.net_g.named_parameters()}
    model.feed_data(batch())
    model.optimize_parameters(1)
    assert [key for key, p in model.net_g.named_parameters() if torch.equal(p, start[key])] == []
    assert math.isfinite(model.log_dict['l_pix'])


@pytest.mark.parametrize('name', TINY)
@pytest.mark.parametrize('upscale', [2, 3, 4])
@pytest.mark.parametrize('height, width', [(1, 1), (2, 9), (7, 5)])
def test_any_size_comes_back_scaled_and_uncropped(name, upscale, height, width):
    output = tiny(name, upscale=upscale)(torch.rand(2, 3, height, width))
    assert output.shape == (2, 3, upscale * height, upscale * width)


@pytest.mark.parametrize('name', TINY)
def test_a_seed_fixes_weights_and_output(name):
    lq = torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(1))
    first, second = (tiny(name).eval()(lq) for _ in range(2))
    assert torch.equal(first, second) and first.std() > 0


@pytest.mark.parametrize('name', ['HAT', 'SRCNN', 'VDSR'])
@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
def test_dtype_follows_the_network(name, dtype):
    assert tiny(name).to(dtype)(torch.rand(1, 3, 5, 6, dtype=dtype)).dtype == dtype


def test_bf16_autocast_trains_hat():
    net = tiny('HAT')
    with torch.autocast('cpu', torch.bfloat16):
        output = net(torch.rand(1, 3, 8, 8))
    output.float().square().mean().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize('kernel_sizes, weights', [([9, 5, 5], 57_184), ([9, 1, 5], 8_032)])
def test_srcnn_has_the_papers_number_of_weights(kernel_sizes, weights):
    """Those that the paper gives for its luma networks, biases not counted."""
    net = SRCNN(num_in_ch=1, num_out_ch=1, kernel_sizes=kernel_sizes)
    assert sum(p.numel() for p in net.parameters() if p.dim() == 4) == weights


def test_srcnn_starts_from_a_gaussian_of_a_thousandth():
    net = SRCNN()
    for convolution in net.children():
        assert 0.9e-3 < convolution.weight.std() < 1.1e-3 and not convolution.bias.any()


def test_srcnn_repeats_the_borders_of_an_image():
    net = SRCNN(upscale=1)
    for convolution in net.children():
        torch.nn.init.constant_(convolution.weight, 0.01)
    output = net(torch.full((1, 3, 6, 7), 0.5))
    torch.testing.assert_close(output, output[..., 3:4, 3:4].expand_as(output))


def test_vdsr_starts_as_he_et_al_and_sees_41_pixels():
    torch.manual_seed(0)
    net = VDSR(upscale=1)
    for convolution in list(net.body)[::2]:
        fan_in = convolution.weight[0].numel()
        assert 0.9 < convolution.weight.std() / (2 / fan_in)**0.5 < 1.1 and not convolution.bias.any()
    lq = torch.rand(1, 3, 3, 61).requires_grad_()
    net(lq)[..., 1, 30].sum().backward()
    assert lq.grad.abs().sum((0, 1, 2)).nonzero().flatten().tolist() == list(range(10, 51))


def test_vdsr_without_its_convolutions_is_bicubic_enlargement():
    net, lq = tiny('VDSR'), torch.rand(1, 3, 6, 7)
    torch.nn.init.zeros_(net.body[-1].weight)
    assert torch.equal(net(lq), F.interpolate(lq, scale_factor=4, mode='bicubic', antialias=True))


@pytest.mark.parametrize('name, wrong', [
    ('HAT', {'upscale': 5}), ('HAT', {'upsampler': ''}), ('HAT', {'resi_connection': '3conv'}),
    ('HAT', {'num_heads': [2, 2]}), ('HAT', {'num_heads': [3]}), ('HAT', {'img_size': 4}),
    ('HAT', {'overlap_ratio': 0.25}), ('HAT', {'squeeze_factor': 30}), ('HAT', {'compress_ratio': 0}),
    ('SRCNN', {'kernel_sizes': [9, 2, 5]}), ('SRCNN', {'kernel_sizes': [9, 5]}), ('VDSR', {'num_out_ch': 1}),
    ('VDSR', {'num_conv': 1})])
def test_an_impossible_option_is_refused_by_name(name, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        build_network({'type': name, 'upscale': 4, **TINY[name], **wrong})


@pytest.mark.parametrize('name', ['HAT', 'SRCNN', 'VDSR'])
def test_a_misspelt_option_is_refused(name):
    with pytest.raises(InputError, match=rf"'{name}\.upscal' \(did you mean 'upscale'\?\)"):
        build_network({'type': name, 'upscal': 4})


@pytest.mark.parametrize('name', ['HAT', 'HAT-S', 'EDSR', 'RCAN', 'SRCNN', 'VDSR'])
@pytest.mark.parametrize('kind', ['train', 'test'])
def test_a_peer_differs_from_swinir_in_name_and_network_alone(kind, name):
    peer, swinir = (load(OPTIONS / f'{kind}_{label}_x4.yml') for label in (name, 'SwinIR'))
    for opt, label in ((peer, name), (swinir, 'SwinIR')):
        assert opt.pop('name') == f'{kind}_{label}_x4'
        assert opt.pop('network_g')['type'] == label.removesuffix('-S')
        if kind == 'test':
            assert opt['path'].pop('pretrain_network_g') == f'experiments/train_{label}_x4/models/net_g_latest.pth'
    assert peer == swinir
