"""MambaIR, MambaIRv2 and MambaIRv2Light: the official checkpoints' names and shapes, the official code's output."""
import hashlib

import pytest
import torch
from basicsr.archs import build_network
from diffrwkvir_arch.archs.mambairv2_attention import pad_symmetric
from diffrwkvir_arch.errors import InputError

V1 = dict(type='MambaIR', upscale=2, embed_dim=30, depths=[1, 2], d_state=3, mlp_ratio=1.5, upsampler='pixelshuffle')
V2 = dict(type='MambaIRv2', upscale=2, embed_dim=12, depths=[2], num_heads=[2], d_state=4, window_size=4, inner_rank=3,
          num_tokens=5, upsampler='pixelshuffle')
LIGHT = {**V2, 'type': 'MambaIRv2Light', 'mlp_ratio': 1.0, 'upsampler': 'pixelshuffledirect'}
SMALL = {
    'MambaIR': V1,
    'MambaIR lightweight': {**V1, 'upscale': 3, 'upsampler': 'pixelshuffledirect'},
    'MambaIR same size': {**V1, 'upscale': 1, 'upsampler': '', 'in_chans': 1, 'img_range': 255.,
                          'resi_connection': '3conv'},
    'MambaIRv2': V2,
    'MambaIRv2 same size': {**V2, 'upscale': 1, 'upsampler': '', 'in_chans': 1},
    'MambaIRv2Light': LIGHT,
}
small = pytest.mark.parametrize('options', SMALL.values(), ids=SMALL)


def build(options, **more):
    torch.manual_seed(0)
    return build_network({**options, **more})


def image(net, height, width, batch=1):
    return torch.rand(batch, net.conv_first.in_channels, height, width)


# network_g as the official option files give it.
SR = dict(upscale=4, in_chans=3, img_size=64, img_range=1., upsampler='pixelshuffle', resi_connection='1conv')
LIGHT_SR = {**SR, 'upsampler': 'pixelshuffledirect'}
WINDOWS = dict(window_size=16, convffn_kernel_size=5)
# Options, entries, parameters, fingerprint, and some entries that a reader can look up in a checkpoint.
OFFICIAL = {
    'MambaIR x4': (
        dict(SR, type='MambaIR', window_size=8, d_state=16, depths=[6] * 6, embed_dim=180, mlp_ratio=2),
        928, 20569575, 'cd8f32bd4156f1f0', {
            'conv_first.weight': (180, 3, 3, 3),
            'patch_embed.norm.weight': (180, ),
            'layers.5.residual_group.blocks.5.self_attention.x_proj_weight': (4, 44, 360),
            'layers.5.residual_group.blocks.5.self_attention.A_logs': (1440, 16),
            'layers.5.residual_group.blocks.5.conv_blk.cab.3.attention.1.weight': (6, 180, 1, 1),
            'layers.5.residual_group.blocks.5.skip_scale2': (180, ),
            'upsample.2.weight': (256, 64, 3, 3),
            'conv_last.weight': (3, 64, 3, 3),
        }),
    'MambaIR light x4': (
        dict(LIGHT_SR, type='MambaIR', d_state=10, depths=[6] * 4, embed_dim=60, mlp_ratio=1.2),
        618, 1075212, 'cacedc5f9a1435c0', {'upsample.0.weight': (48, 60, 3, 3)}),
    'MambaIR JPEG': (
        dict(type='MambaIR', upscale=1, in_chans=1, img_size=126, d_state=16, depths=[6] * 6, embed_dim=180,
             mlp_ratio=1.2),
        922, 15771025, '8aa9ed8d88c5bf96', {'conv_last.weight': (1, 180, 3, 3)}),
    'MambaIRv2 x4': (
        dict(SR, **WINDOWS, type='MambaIRv2', embed_dim=174, d_state=16, depths=[6] * 6, num_heads=[6] * 6,
             inner_rank=64, num_tokens=128, mlp_ratio=2.),
        1685, 23050713, '7badc9d3a8d4f1ed', {
            'relative_position_index_SA': (256, 256),
            'layers.5.residual_group.layers.5.win_mhsa.relative_position_bias_table': (961, 6),
            'layers.5.residual_group.layers.5.assm.selectiveScan.dt_projs_weight': (1, 348, 22),
            'layers.5.residual_group.layers.5.assm.embeddingB.weight': (128, 64),
            'layers.5.residual_group.layers.5.convffn1.dwconv.depthwise_conv.0.weight': (348, 1, 5, 5),
            'layers.5.residual_group.layers.5.embeddingA.weight': (64, 16),
        }),
    'MambaIRv2 small x4': (
        dict(SR, **WINDOWS, type='MambaIRv2', embed_dim=132, d_state=16, depths=[4] * 6, num_heads=[4] * 6,
             inner_rank=64, num_tokens=128, mlp_ratio=2.),
        1133, 9769647, 'a94a7d5fc55c969f', {'conv_first.weight': (132, 3, 3, 3)}),
    'MambaIRv2Light x4': (
        dict(LIGHT_SR, **WINDOWS, type='MambaIRv2Light', embed_dim=48, d_state=8, depths=[5] * 4, num_heads=[4] * 4,
             inner_rank=32, num_tokens=64, mlp_ratio=1.),
        1019, 789680, '3e88c0d99f5ef194', {'layers.3.residual_group.layers.4.convffn2.sg.norm.weight': (24, )}),
}


@pytest.mark.parametrize('name', OFFICIAL)
def test_names_and_shapes_are_those_of_the_official_checkpoints(name):
    options, entries, parameters, fingerprint, some = OFFICIAL[name]
    with torch.device('meta'):
        net = build_network(options)
    shapes = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    assert {key: shapes[key] for key in some} == some
    assert (len(shapes), sum(p.numel() for p in net.parameters())) == (entries, parameters)
    assert hashlib.sha256(repr(sorted(shapes.items())).encode()).hexdigest()[:16] == fingerprint


def fill(net):
    """Weights that any implementation can be given, from the sorted names alone."""
    with torch.no_grad():
        for number, (name, p) in enumerate(sorted(net.named_parameters())):
            wave = 1e4 * torch.sin(12.9898 * torch.arange(p.numel(), dtype=p.dtype) + number).view_as(p)
            # Routes so sure of themselves that no draw changes MambaIRv2's choice of prompts.
            p.copy_((wave - wave.floor() - 0.5) * (12 / p[0].numel()) ** 0.5 * (1e5 if 'route.2' in name else 1))
    return net


# What the official code gives for these weights and this image, in float64 and with a stable sort: every seventh of the
# first 42 values.
OFFICIAL_OUTPUT = {
    'MambaIR': [2.0820386, 0.3532079, 1.5450586, -0.7493510, -0.2169466, -0.1381396],
    'MambaIR lightweight': [2.3945321, -1.0602129, 0.4702955, 2.0730073, -2.1495152, -0.1578931],
    'MambaIR same size': [0.1119733, 0.8107286, 0.9663251, 1.0109481, 0.8569361],
    'MambaIRv2': [1.9553247, -1.1570668, 0.4805833, -1.8236232, 2.9751660, -5.5215502],
    'MambaIRv2 same size': [2.2655973, 1.9431020, 2.5192816, 2.1682500, 2.1145089],
    'MambaIRv2Light': [-1.8325467, 0.8480746, 1.2644403, 2.6662593, -0.2016755, -0.0193952],
}


@pytest.mark.parametrize('name', SMALL)
def test_the_official_code_gives_the_same_image_for_the_same_weights(name):
    net = fill(build(SMALL[name]).double().eval())
    channels = net.conv_first.in_channels
    lq = torch.sin(torch.arange(channels * 35, dtype=torch.float64)).view(1, channels, 5, 7) / 2 + 0.5
    torch.testing.assert_close(net(lq).flatten()[:42:7], torch.tensor(OFFICIAL_OUTPUT[name], dtype=torch.float64),
                               rtol=1e-6, atol=1e-6)


@small
@pytest.mark.parametrize('height, width', [(1, 1), (1, 9), (5, 2), (7, 10)])
def test_any_size_comes_back_scaled_and_uncropped(options, height, width):
    net = build(options)
    lq = image(net, height, width, batch=2)
    assert net(lq).shape == (*lq.shape[:2], height * options['upscale'], width * options['upscale'])


@small
def test_a_network_whose_memory_comes_later_is_the_same_once_it_has_weights(options):
    net = build(options)
    other = build(options).to('meta').to_empty(device='cpu')
    other.load_state_dict(net.state_dict())
    lq, outputs = image(net, 5, 7), []
    for network in (net, other):
        torch.manual_seed(1)    # MambaIRv2 draws
        outputs.append(network(lq))
    assert torch.equal(*outputs)


@small
def test_every_parameter_learns(options):
    net = build(options)
    for name, p in net.named_parameters():
        # The one hidden unit of so small a channel attention must not lie where ReLU is flat.
        if name.endswith('attention.1.bias'):
            torch.nn.init.ones_(p)
    net(image(net, 6, 7)).square().mean().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


@small
def test_checkpointed_blocks_give_the_same_gradients(options):
    gradients = []
    for use_checkpoint in (False, True):
        net = build(options, use_checkpoint=use_checkpoint).train()
        torch.manual_seed(1)
        calls = []
        next(iter(net.layers[0].residual_group.values()))[0].register_forward_pre_hook(lambda *_: calls.append(1))
        net(image(net, 5, 5)).square().mean().backward()
        assert len(calls) == 1 + use_checkpoint
        gradients.append([p.grad for p in net.parameters()])
    for plain, recomputed in zip(*gradients):
        torch.testing.assert_close(plain, recomputed)


@small
@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
def test_dtype_follows_the_network(options, dtype):
    net = build(options).to(dtype)
    assert net(image(net, 5, 5).to(dtype)).dtype == dtype


@pytest.mark.parametrize('options', [V1, LIGHT], ids=['MambaIR', 'MambaIRv2Light'])
def test_bf16_autocast_trains(options):
    net = build(options)
    with torch.autocast('cpu', torch.bfloat16):
        output = net(image(net, 5, 5))
    output.float().square().mean().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize('options', [V2, LIGHT], ids=['MambaIRv2', 'MambaIRv2Light'])
def test_the_prompts_are_drawn_so_that_only_a_seed_gives_the_same_image_twice(options):
    net = build(options).eval()
    lq, outputs = image(net, 8, 8), []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outputs.append(net(lq))
    assert torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[0], outputs[2])


def test_a_pixel_reaches_the_whole_image_through_a_single_block_of_mambair():
    net = build(V1, depths=[1])
    lq = image(net, 9, 9).requires_grad_()
    net(lq)[0, :, 9, 9].sum().backward()
    assert (lq.grad.abs().sum(1) > 0).all()


def test_padding_mirrors_the_image_to_and_fro():
    row = torch.tensor([1., 2., 3.]).view(1, 1, 1, 3)
    assert pad_symmetric(row, 8)[0, 0, 0].tolist() == [1, 2, 3, 3, 2, 1, 1, 2]
    assert pad_symmetric(row.mT, 4)[0, 0, :, 0].tolist() == [1, 2, 3, 3]


@pytest.mark.parametrize('options, wrong', [
    (V1, {'upsampler': 'nearest+conv'}), (V1, {'upscale': 5}), (V1, {'upscale': 2, 'upsampler': ''}),
    (V1, {'resi_connection': '2conv'}), (V2, {'num_heads': [2, 2]}), (V2, {'num_heads': [5]}),
    (V2, {'convffn_kernel_size': 4}), (LIGHT, {'mlp_ratio': 0.25})])
def test_an_impossible_option_is_refused_by_name(options, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        build(options, **wrong)


@pytest.mark.parametrize('options', [V1, V2], ids=['MambaIR', 'MambaIRv2'])
def test_a_misspelt_option_is_refused(options):
    with pytest.raises(InputError, match=r"'MambaIR\w*\.depth' \(did you mean 'depths'\?\)"):
        build(options, depth=[1])
