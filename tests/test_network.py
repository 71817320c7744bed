"""The network of both stages: shapes, sizes, determinism, and every switch of the paper's Table 5."""
import copy
import re

import numpy as np
import pytest
import torch
from diffrwkvir_arch.archs.diffrwkvir_s1_arch import DiffRWKVIRS1
from diffrwkvir_arch.archs.diffrwkvir_s2_arch import DiffRWKVIRS2
from diffrwkvir_arch.archs.feed_forward import FEED_FORWARDS
from diffrwkvir_arch.archs.mambairv2_attention import pad_symmetric
from diffrwkvir_arch.archs.mixers import MIXERS
from diffrwkvir_arch.archs.token_shift import SHIFTS
from diffrwkvir_arch.archs.tokens import enlarge, pad_to_multiple

SMALL = dict(dim=16, groups=1, blocks=2, head_dim=4, prior_dim=16, encoder_dim=8, upsampler='direct')


def small_s1(**options):
    torch.manual_seed(0)
    return DiffRWKVIRS1(**{**SMALL, **options})


def small_s2(**options):
    torch.manual_seed(0)
    return DiffRWKVIRS2(**{**SMALL, **options})


def parameters(net):
    return sum(p.numel() for p in net.parameters())


def test_the_default_network_has_the_papers_eleven_million_parameters():
    assert 10.5e6 < parameters(DiffRWKVIRS2(scale=4)) < 11.5e6


def test_the_default_network_has_four_groups_of_six_blocks_and_a_prior_of_256():
    net = DiffRWKVIRS2()
    assert [len(group.blocks) for group in net.restorer.groups] == [6, 6, 6, 6]
    assert net.diffusion.start.shape == (1, 256)


@pytest.mark.parametrize('scale', [1, 2, 3, 4])
@pytest.mark.parametrize('height, width', [(1, 1), (1, 9), (5, 2), (7, 10)])
def test_any_size_comes_back_scaled_and_uncropped_in_both_stages(scale, height, width):
    lq, gt = torch.rand(2, 3, height, width), torch.rand(2, 3, scale * height, scale * width)
    assert small_s1(scale=scale)(lq, gt).shape == gt.shape
    assert small_s2(scale=scale)(lq).shape == gt.shape


@pytest.mark.parametrize('upsampler', ['stepwise', 'direct'])
@pytest.mark.parametrize('scale', [1, 2, 3, 4])
def test_both_upsamplers_fit_every_scale(upsampler, scale):
    net = small_s2(scale=scale, upsampler=upsampler, up_dim=8)
    assert net(torch.rand(1, 3, 6, 5)).shape == (1, 3, 6 * scale, 5 * scale)


def test_without_its_detail_the_network_returns_matlab_bicubic():
    from basicsr.utils.matlab_functions import imresize
    net = small_s2(scale=4)
    torch.nn.init.zeros_(net.restorer.upsample[0].weight)
    torch.nn.init.zeros_(net.restorer.upsample[0].bias)
    lq = torch.rand(1, 3, 12, 10)
    expected = imresize(lq[0], 4)
    inner = slice(12, -12)  # the border is extended in another way
    torch.testing.assert_close(net(lq)[0][:, inner, inner], expected[:, inner, inner], atol=1e-5, rtol=0)


def test_at_scale_one_an_image_whose_sides_are_no_multiple_of_four_keeps_its_pixels_in_place():
    net = small_s2(scale=1)
    for parameter in net.restorer.upsample.parameters():
        torch.nn.init.zeros_(parameter)
    lq = torch.rand(1, 3, 7, 5)
    assert torch.equal(net(lq), lq)


def test_forward_is_extract_prior_and_restore():
    net = small_s2().eval()
    lq = torch.rand(2, 3, 8, 6)
    prior = net.extract_prior(lq)
    assert prior.shape == (2, 16)
    restored, same = net(lq, return_prior=True)
    assert torch.equal(restored, net.restore(lq, prior)) and torch.equal(same, prior)


@pytest.mark.parametrize('levels, widths', [(1, [8]), (2, [8, 16]), (4, [8, 16, 32, 64])])
def test_the_prior_is_drawn_from_every_scale_of_its_encoder(levels, widths):
    net = small_s2(encoder_levels=levels)
    seen = []
    net.condition.to_prior.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    assert net(torch.rand(1, 3, 7, 5)).shape == (1, 3, 28, 20)
    assert seen[0].shape == (1, sum(widths))
    # Coarsest scale first, and none of them silent.
    assert all(part.abs().max() > 1e-3 for part in seen[0].split(widths[::-1], dim=1))


@pytest.mark.parametrize('scale, of_lq, of_gt', [(1, 4, 4), (2, 2, 4), (3, 1, 3), (4, 1, 4)])
def test_lq_and_gt_meet_unshuffled_to_one_grid_at_every_scale(scale, of_lq, of_gt):
    assert small_s1(scale=scale).encoder.stem.in_channels == 3 * of_lq**2 + 3 * of_gt**2
    net = small_s2(scale=scale)
    assert net.condition.stem.in_channels == 3 * of_lq**2
    assert net.restorer.stem.in_channels == (48 if scale == 1 else 3)


def test_the_prior_changes_the_restored_image():
    net = small_s2()
    lq = torch.rand(1, 3, 8, 8)
    assert not torch.allclose(net.restore(lq, torch.zeros(1, 16)), net.restore(lq, torch.ones(1, 16)), atol=1e-4)


def test_stage_one_reads_its_prior_from_the_gt():
    net = small_s1()
    lq = torch.rand(1, 3, 8, 8)
    priors = [net.extract_prior(lq, gt) for gt in (torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32))]
    assert not torch.allclose(*priors, atol=1e-4)


def test_an_image_gives_the_same_result_alone_in_a_batch_and_every_time():
    net = small_s2().eval()
    images = torch.rand(3, 3, 8, 8)
    together = net(images)
    torch.testing.assert_close(net(images[1:2]), together[1:2], atol=1e-6, rtol=1e-5)
    assert torch.equal(net(images), together)


def test_seed_and_noise_change_the_result():
    lq = torch.rand(1, 3, 8, 8)
    net, other = small_s2(seed=0), small_s2(seed=1)
    other.load_state_dict(net.state_dict())
    assert not torch.equal(net(lq), other(lq))
    assert not torch.equal(net(lq), net(lq, noise=torch.ones(1, 16)))
    assert torch.equal(net(lq), net(lq, noise=net.diffusion.start))


def test_the_seeded_noise_is_the_same_whatever_the_default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        net = small_s2(seed=3)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(net.diffusion.start.float(), small_s2(seed=3).diffusion.start)


def test_the_seeded_noise_is_no_part_of_a_checkpoint():
    assert not any('start' in key for key in small_s2().state_dict())


@pytest.mark.parametrize('shape', [(2, 3, 16, 16), (1, 3, 32, 32), (2, 1, 32, 32), (3, 32, 32)])
def test_gt_of_another_shape_is_refused_with_both_shapes(shape):
    told = f'4 times as large as LQ: expected (2, 3, 32, 32) for LQ (2, 3, 8, 8), got {shape}'
    with pytest.raises(ValueError, match=re.escape(told)):
        small_s1()(torch.rand(2, 3, 8, 8), torch.rand(shape))


@pytest.mark.parametrize('shape', [(2, 15), (3, 16), (16, )])
def test_a_prior_of_another_shape_is_refused_with_both_shapes(shape):
    told = f'must be (2, 16) for LQ (2, 3, 8, 8), or one for all, got {shape}'
    with pytest.raises(ValueError, match=re.escape(told)):
        small_s2().restore(torch.rand(2, 3, 8, 8), torch.rand(shape))


def test_one_prior_serves_all_images_of_a_batch():
    net, lq, prior = small_s2(), torch.rand(2, 3, 8, 8), torch.rand(1, 16)
    torch.testing.assert_close(net.restore(lq, prior), net.restore(lq, prior.expand(2, 16)))


@pytest.mark.parametrize('load', [
    lambda net, weights: net.to_empty(device='cpu').load_state_dict(weights),
    lambda net, weights: net.load_state_dict(weights, assign=True),
    lambda net, weights: net.to('meta').to_empty(device='cpu').load_state_dict(weights)])
def test_a_network_built_without_memory_is_the_same_once_it_has_weights(load):
    lq, net = torch.rand(1, 3, 8, 8), small_s2(seed=3)
    with torch.device('meta'):
        other = small_s2(seed=3)
    load(other, net.state_dict())
    assert torch.equal(other(lq), net(lq))


def test_a_network_built_without_memory_takes_images_without_memory():
    with torch.device('meta'):
        net, lq = small_s2(), torch.rand(2, 3, 5, 7)
        assert net(lq).shape == net(lq, steps=2).shape == (2, 3, 20, 28)


def test_a_network_built_for_inference_alone_can_be_moved_afterwards():
    with torch.inference_mode():
        net = small_s2(seed=3)
    assert torch.equal(net.to('cpu').diffusion.start, small_s2(seed=3).diffusion.start)
    assert net.double().diffusion.start.dtype == torch.float64


@pytest.mark.parametrize('option, value', [
    ('scale', 5), ('shift', 'omnii'), ('mixer', 'mamba'), ('ffn', 'mlp'), ('scan', '2d'), ('upsampler', 'nearest'),
    ('steps', 3), ('steps', 21), ('steps', 5.0), ('head_dim', 5), ('head_dim', 0), ('compress_ratio', 0),
    ('compress_ratio', 2.0), ('encoder_levels', 0), ('scale', 2.0), ('scale', '2'), ('dim', 16.0), ('dim', -4),
    ('blocks', 1.5), ('groups', 0), ('prior_dim', 0), ('encoder_dim', 0), ('in_channels', 0), ('up_dim', '8'),
    ('shift', ['omni']), ('mixer', ['ttt']), ('ffn', ['cab'])])
def test_an_impossible_option_is_refused_by_name(option, value):
    with pytest.raises(ValueError, match=option):
        small_s2(**{option: value})


def test_sizes_may_be_integers_of_numpy():
    sizes = {'dim': 32, 'groups': 1, 'blocks': 1, 'head_dim': 16, 'prior_dim': 24, 'up_dim': 8, 'encoder_dim': 8}
    net = small_s2(**{name: np.int64(size) for name, size in sizes.items()})
    assert parameters(net) == parameters(small_s2(**sizes)) and net(torch.rand(1, 3, 8, 8)).shape == (1, 3, 32, 32)


def test_heads_wider_than_the_operator_takes_are_refused_when_the_network_is_built():
    with pytest.raises(ValueError, match='^head_dim must be at most 128 with mixer ttt, got 192$'):
        small_s2(dim=192, head_dim=192)
    small_s2(dim=192, head_dim=192, mixer='attention')


@pytest.mark.parametrize('known, option, build', [
    (MIXERS, 'mixer', lambda dim, head_dim, shift, scan: torch.nn.Conv2d(dim, dim, 1)),
    (FEED_FORWARDS, 'ffn', lambda dim, compress_ratio: torch.nn.Conv2d(dim, dim, 1)),
    (SHIFTS, 'shift', lambda dim: torch.nn.Conv2d(dim, dim, 1))])
def test_a_part_of_ones_own_is_a_choice_by_its_name(monkeypatch, known, option, build):
    with pytest.raises(ValueError, match=f"{option} must be one of .*, got 'mine'; --import PACKAGE adds"):
        small_s2(**{option: 'mine'})
    monkeypatch.setitem(known, 'mine', build)
    net = small_s2(**{option: 'mine'})
    net(torch.rand(1, 3, 6, 6)).sum().backward()
    part = net.restorer.groups[0].blocks[0].get_submodule(
        {'mixer': 'mixer', 'ffn': 'feed_forward', 'shift': 'mixer.shift'}[option])
    assert isinstance(part, torch.nn.Conv2d) and part.weight.grad.any()


@pytest.mark.parametrize('lq, told', [
    (torch.rand(3, 8, 8), r'\(3, 8, 8\) of torch.float32'),
    (torch.rand(0, 3, 8, 8), r'\(0, 3, 8, 8\) of torch.float32'),
    (torch.full((1, 3, 8, 8), 128, dtype=torch.uint8), r'\(1, 3, 8, 8\) of torch.uint8')])
def test_what_is_no_batch_of_images_in_floats_is_refused(lq, told):
    with pytest.raises(ValueError, match=r'LQ must be \(B, C, h, w\) of floats in \[0, 1\], got ' + told):
        small_s2()(lq)


def test_a_misspelt_option_is_refused():
    with pytest.raises(TypeError, match='blokcs'):
        DiffRWKVIRS2(blokcs=3)


SWITCHES = [
    ('shift', 'quad'), ('shift', 'uni'), ('mixer', 'attention'), ('mixer', 'resnet'), ('mixer', 'rwkv'),
    ('ffn', 'mlp_relu'), ('ffn', 'mlp_gelu'), ('ffn', 'gated_mlp'), ('compress_ratio', 1), ('scan', 'split'),
    ('scan', '1d')]


@pytest.mark.parametrize('option, value', SWITCHES)
def test_every_switch_of_table_5_trains_one_step_and_differs_from_the_default(option, value):
    lq, gt = torch.rand(2, 3, 6, 6), torch.rand(2, 3, 24, 24)
    outputs = []
    for options in ({}, {option: value}):
        net = small_s1(**options)
        # Same weights wherever both have them: what differs is the switch.
        if options:
            own = net.state_dict()
            shared = {k: v for k, v in default.items() if k in own and v.shape == own[k].shape}
            net.load_state_dict(shared, strict=False)
        default = net.state_dict()
        output = net(lq, gt)
        outputs.append(output.detach())
        before = copy.deepcopy(net.state_dict())
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        (output - gt).abs().mean().backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
        optimizer.step()
        assert any(not torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not torch.allclose(*outputs, atol=1e-5)


def test_every_parameter_of_stage_two_learns():
    net = small_s2()
    torch.manual_seed(1)
    # LoRA's A starts at zero, which blocks B's gradient at the very first step.
    for name, parameter in net.named_parameters():
        if 'lora.A' in name:
            torch.nn.init.normal_(parameter, std=0.1)
    net(torch.rand(2, 3, 16, 16)).square().mean().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_checkpointed_blocks_give_the_same_gradients():
    lq, gradients = torch.rand(1, 3, 6, 6), []
    for use_checkpoint in (False, True):
        net, calls = small_s2(use_checkpoint=use_checkpoint).train(), []
        net.restorer.groups[0].blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
        net(lq).square().mean().backward()
        assert len(calls) == 1 + use_checkpoint
        gradients.append([p.grad for p in net.parameters()])
    for plain, recomputed in zip(*gradients):
        torch.testing.assert_close(plain, recomputed)


def test_bf16_autocast_stays_near_float32_and_trains():
    net, lq = small_s2(), torch.rand(1, 3, 8, 8)
    expected = net(lq)
    with torch.autocast('cpu', torch.bfloat16):
        output = net(lq)
    assert (output.float() - expected).abs().max() < 0.05
    output.float().square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


@pytest.mark.parametrize('arch', [DiffRWKVIRS1, DiffRWKVIRS2])
def test_networks_can_be_built_without_memory(arch):
    with torch.device('meta'):
        net = arch(scale=2, dim=16, groups=1, blocks=1, prior_dim=16, encoder_dim=8)
    assert all(p.is_meta for p in net.parameters())


def test_float64_networks_add_to_a_float64_image():
    image = torch.rand(1, 3, 5, 6, dtype=torch.float64)
    assert (enlarge(image, 2) - enlarge(image.float(), 2)).abs().max() > 1e-9


def test_torch_compile_traces_one_graph_and_gives_what_eager_gives():
    net, lq = small_s2().eval(), torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        compiled = torch.compile(net, backend='aot_eager', fullgraph=True)(lq)
        torch.testing.assert_close(compiled, net(lq), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('pad', [pad_to_multiple, pad_symmetric])
def test_compiled_for_any_size_padding_takes_no_remainder_of_a_negative_number(pad):
    shapes = []

    def record(graph, inputs):
        shapes.extend(str(node.meta['example_value'].shape) for node in graph.graph.nodes
                      if isinstance(node.meta.get('example_value'), torch.Tensor))
        return graph

    padded = torch.compile(lambda x: pad(x, 2), backend=record, dynamic=True, fullgraph=True)
    assert padded(torch.rand(1, 3, 9, 11)).shape == (1, 3, 10, 12)
    # Which inductor refuses in the shapes of what follows.
    assert ('Mod(' in shapes[-1] or '//' in shapes[-1]) and 'PythonMod' not in ' '.join(shapes)
