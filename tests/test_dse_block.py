"""The parts of a DSE block against their equations: token shifts, mixers, feed-forward parts, how they start."""
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffrwkvir_arch.archs.bidirectional_wkv import BidirectionalWKV, bidirectional_wkv
from diffrwkvir_arch.archs.feed_forward import ChannelAttention, build_feed_forward
from diffrwkvir_arch.archs.initialisation import begin_small
from diffrwkvir_arch.archs.mixers import StateEvolutionBlock
from diffrwkvir_arch.archs.token_shift import OmniShift, QuadShift, UniShift
from diffrwkvir_arch.archs.tokens import pad_to_multiple
from state_evolution import DIRECTIONS, state_evolution_2d


def test_omni_shift_is_the_sum_of_its_branches():
    torch.manual_seed(0)
    shift, x = OmniShift(4), torch.rand(2, 4, 6, 5)
    weights = shift.branch_weight
    expected = weights[0] * x
    for weight, kernel in zip(weights[1:], shift.kernels):
        expected = expected + weight * F.conv2d(x, kernel, padding=kernel.shape[-1] // 2, groups=4)
    torch.testing.assert_close(shift(x), expected)


def test_uni_shift_reads_the_preceding_token_and_quad_shift_the_four_neighbours():
    x = torch.arange(1., 1 + 4 * 9).view(1, 4, 3, 3)
    shifted = UniShift(4)(x)
    assert shifted[0, 0].flatten().tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    left, right, up, down = QuadShift(4)(x)[0, :, 1, 1].tolist()
    assert [left, right, up, down] == [x[0, 0, 1, 0], x[0, 1, 1, 2], x[0, 2, 0, 1], x[0, 3, 2, 1]]


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


def test_the_operator_is_handed_one_dtype_under_autocast():
    block = StateEvolutionBlock(32).train()
    with torch.autocast('cpu', torch.bfloat16):
        q, k, v, *_ = block.streams(torch.rand(1, 32, 4, 4))
    assert q.dtype == k.dtype == v.dtype == torch.bfloat16


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


def test_wkv_goes_along_rows_then_along_columns_and_receptance_gates_it():
    torch.manual_seed(0)
    mixer, x = BidirectionalWKV(4), torch.randn(1, 4, 5, 3)
    shifted = mixer.shift(x)
    k, v = mixer.key(shifted), mixer.value(shifted)
    rows, columns = zip(mixer.decay, mixer.bonus)
    v = bidirectional_wkv(k.flatten(2).mT, v.flatten(2).mT, *rows).mT.view(1, 4, 5, 3)
    v = bidirectional_wkv(k.mT.flatten(2).mT, v.mT.flatten(2).mT, *columns).mT.view(1, 4, 3, 5).mT
    torch.testing.assert_close(mixer(x), mixer.project(torch.sigmoid(mixer.receptance(shifted)) * v))


def test_channel_attention_is_equation_11():
    torch.manual_seed(0)
    attention, x = ChannelAttention(8), torch.randn(2, 8, 5, 4)
    w1, w2 = attention.excite[0], attention.excite[2]
    pooled = x.mean((2, 3))
    gate = torch.sigmoid(torch.relu(pooled @ w1.weight[:, :, 0, 0].T + w1.bias) @ w2.weight[:, :, 0, 0].T + w2.bias)
    torch.testing.assert_close(attention(x), x * gate[:, :, None, None])


def test_every_unit_of_a_new_channel_attention_learns_from_the_small_averages_of_a_beginning():
    torch.manual_seed(0)
    attention = ChannelAttention(128)
    attention(0.1 * torch.randn(1, 128, 6, 6)).square().sum().backward()
    assert attention.excite[0].weight.grad.flatten(1).any(1).all()


def test_the_gated_mlp_multiplies_one_half_by_the_gelu_of_the_other():
    torch.manual_seed(0)
    gated, x = build_feed_forward('gated_mlp', 8), torch.randn(2, 8, 3, 4)
    pixels = x.permute(0, 2, 3, 1)
    w1, w2 = gated.enter.weight[:, :, 0, 0].chunk(2)
    b1, b2 = gated.enter.bias.chunk(2)
    hidden = (pixels @ w1.T + b1) * F.gelu(pixels @ w2.T + b2)
    expected = hidden @ gated.leave.weight[:, :, 0, 0].T + gated.leave.bias
    torch.testing.assert_close(gated(x), expected.permute(0, 3, 1, 2))


def test_all_feed_forward_variants_are_of_about_one_size():
    sizes = [sum(p.numel() for p in build_feed_forward(ffn, 96).parameters())
             for ffn in ('cab', 'mlp_relu', 'mlp_gelu', 'gated_mlp')]
    assert max(sizes) < 1.1 * min(sizes)


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
