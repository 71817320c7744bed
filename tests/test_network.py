"""The network of both stages: shapes, sizes, determinism, and every switch of the paper's Table 5."""
import copy

import numpy as np
import pytest
import torch
from diffrwkvir_arch.archs.bidirectional_wkv import BidirectionalWKV, bidirectional_wkv
from diffrwkvir_arch.archs.diffrwkvir_s1_arch import DiffRWKVIRS1
from diffrwkvir_arch.archs.diffrwkvir_s2_arch import DiffRWKVIRS2
from diffrwkvir_arch.archs.feed_forward import ChannelAttention, build_feed_forward
from diffrwkvir_arch.archs.initialisation import begin_small
from diffrwkvir_arch.archs.mixers import StateEvolutionBlock
from diffrwkvir_arch.archs.token_shift import OmniShift, QuadShift, UniShift
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


def test_the_seeded_noise_is_no_part_of_a_checkpoint():
    assert not any('start' in key for key in small_s2().state_dict())


def test_gt_of_another_size_is_refused_with_both_sizes():
    with pytest.raises(ValueError, match=r'4 times.*\(32, 32\).*\(16, 16\)'):
        small_s1()(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 16, 16))


@pytest.mark.parametrize('option, value', [
    ('scale', 5), ('shift', 'omnii'), ('mixer', 'mamba'), ('ffn', 'mlp'), ('scan', '2d'), ('upsampler', 'nearest'),
    ('steps', 3), ('steps', 21), ('head_dim', 5), ('compress_ratio', 0),
    ('encoder_levels', 0)])
def test_an_impossible_option_is_refused_by_name(option, value):
    with pytest.raises(ValueError, match=option):
        small_s2(**{option: value})


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


def test_all_feed_forward_variants_are_of_about_one_size():
    sizes = [parameters(build_feed_forward(ffn, 96)) for ffn in ('cab', 'mlp_relu', 'mlp_gelu', 'gated_mlp')]
    assert max(sizes) < 1.1 * min(sizes)


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


def test_the_operator_is_handed_one_dtype_under_autocast():
    block = StateEvolutionBlock(32).train()
    with torch.autocast('cpu', torch.bfloat16):
        q, k, v, *_ = block.streams(torch.rand(1, 32, 4, 4))
    assert q.dtype == k.dtype == v.dtype == torch.bfloat16


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


def test_omni_shift_is_the_sum_of_its_branches():
    torch.manual_seed(0)
    shift, x = OmniShift(4), torch.rand(2, 4, 6, 5)
    weights = shift.branch_weight
    expected = weights[0] * x
    for weight, kernel in zip(weights[1:], shift.kernels):
        expected = expected + weight * torch.nn.functional.conv2d(x, kernel, padding=kernel.shape[-1] // 2, groups=4)
    torch.testing.assert_close(shift(x), expected)


def test_uni_shift_reads_the_preceding_token_and_quad_shift_the_four_neighbours():
    x = torch.arange(1., 1 + 4 * 9).view(1, 4, 3, 3)
    shifted = UniShift(4)(x)
    assert shifted[0, 0].flatten().tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    left, right, up, down = QuadShift(4)(x)[0, :, 1, 1].tolist()
    assert [left, right, up, down] == [x[0, 0, 1, 0], x[0, 1, 1, 2], x[0, 2, 0, 1], x[0, 3, 2, 1]]


def test_a_branch_begins_with_a_tenth_of_its_weights_and_without_bias():
    layer = torch.nn.Conv2d(2, 3, 3)
    weight = layer.weight.detach().clone()
    assert begin_small(layer) is layer and not layer.bias.any()
    torch.testing.assert_close(layer.weight.detach(), weight / 10)


@pytest.mark.parametrize('size, mode', [((5, 6), 'reflect'), ((3, 6), 'reflect'), ((2, 6), 'edge'), ((1, 1), 'edge')])
def test_padding_reflects_where_the_image_is_large_enough_and_repeats_its_border_where_not(size, mode):
    image = torch.arange(size[0] * size[1], dtype=torch.float32).reshape(1, 1, *size)
    wanted = np.pad(image[0, 0], [(0, -side % 5) for side in size], mode=mode)
    assert np.array_equal(pad_to_multiple(image, 5)[0, 0], wanted)


def test_decay_and_step_size_stay_in_their_ranges_for_extreme_inputs():
    torch.manual_seed(0)
    block = StateEvolutionBlock(16, head_dim=4)
    for parameter in (block.decay_lora.A.weight, block.step_lora.A.weight):
        torch.nn.init.normal_(parameter, std=100)
    _, k, _, log_decay, step_size = block.streams(torch.randn(1, 16, 5, 5) * 100)
    assert log_decay.max() <= 0 and step_size.min() >= 0 and step_size.max() <= 1
    assert k.norm(dim=-1).max() <= 1 + 1e-5


def test_at_first_heads_forget_between_one_and_fifty_percent_of_their_state_a_token_whatever_they_see():
    *_, log_decay, step_size = StateEvolutionBlock(16, head_dim=4).streams(torch.randn(2, 16, 3, 3))
    forget = 0.01 * 50**torch.linspace(0, 1, 4)
    torch.testing.assert_close(1 - log_decay.exp(), forget.expand_as(log_decay), atol=0, rtol=5e-3)
    softplus = torch.tensor(2.).log()    # of 0
    torch.testing.assert_close(step_size, (softplus / (1 + softplus)).expand_as(step_size))


def test_a_pixel_reaches_the_whole_image_through_the_omni_scan_and_only_later_rows_through_1d():
    reached = {}
    for scan in ('omni', '1d'):
        torch.manual_seed(0)
        block = StateEvolutionBlock(16, head_dim=4, shift='uni', scan=scan)
        x = torch.randn(1, 16, 9, 9, requires_grad=True)
        block(x)[0, :, 4, 4].sum().backward()
        reached[scan] = x.grad.abs().sum(1)[0] > 0
    assert reached['omni'].all()
    assert reached['1d'].flatten()[:41].all() and not reached['1d'].flatten()[41:].any()


def test_split_scan_gives_every_direction_a_share_of_the_heads():
    torch.manual_seed(0)
    block = StateEvolutionBlock(16, head_dim=4, shift='uni', scan='split')
    q, k, v, log_decay, step_size = block.streams(torch.randn(1, 16, 3, 3))
    out = block.scan((q, k, v, log_decay, step_size), 3, 3)
    from state_evolution import DIRECTIONS, state_evolution_2d
    for head, direction in enumerate(DIRECTIONS):
        alone = state_evolution_2d(*(t[:, :, head:head + 1] for t in (q, k, v, log_decay, step_size)), 3, 3,
                                   directions=(direction, ))
        torch.testing.assert_close(out[:, :, head:head + 1], alone)


@pytest.mark.parametrize('length', [1, 2, 37])
def test_bidirectional_wkv_is_the_mean_that_its_definition_says(length):
    k, v = torch.randn(2, length, 3, dtype=torch.float64) * 4, torch.randn(2, length, 3, dtype=torch.float64)
    decay, bonus = torch.tensor([0.5, 9., -3.]).double(), torch.tensor([0., -2., 5.]).double()
    distance = (torch.arange(length) - torch.arange(length)[:, None]).abs()[None, :, :, None]
    scores = torch.where(distance > 0, k[:, None] - (distance - 1) * decay / length, k[:, None] + bonus / length)
    expected = torch.einsum('btic,bic->btc', scores.softmax(2), v)
    torch.testing.assert_close(bidirectional_wkv(k, v, decay, bonus), expected)


def test_wkv_goes_along_rows_and_columns_in_turn():
    """Turned images see what the passes in the other order would see of the unturned ones."""
    mixer, x = BidirectionalWKV(4), torch.randn(1, 4, 5, 3)
    mixer.shift = torch.nn.Identity()
    turned = BidirectionalWKV(4)
    turned.shift = torch.nn.Identity()
    turned.load_state_dict({key: value.flip(0) if key in ('decay', 'bonus') else value
                            for key, value in mixer.state_dict().items()}, strict=False)
    assert mixer(x).shape == x.shape
    assert not torch.allclose(turned(x.mT).mT, mixer(x))
    with torch.no_grad():
        for net in (mixer, turned):
            net.decay.zero_()    # without decay and bonus the order of tokens is of no account
            net.bonus.zero_()
    torch.testing.assert_close(turned(x.mT).mT, mixer(x))


def test_channel_attention_is_equation_11():
    torch.manual_seed(0)
    attention, x = ChannelAttention(8), torch.randn(2, 8, 5, 4)
    w1, w2 = attention.excite[0], attention.excite[2]
    pooled = x.mean((2, 3))
    gate = torch.sigmoid(torch.relu(pooled @ w1.weight[:, :, 0, 0].T + w1.bias) @ w2.weight[:, :, 0, 0].T + w2.bias)
    torch.testing.assert_close(attention(x), x * gate[:, :, None, None])
