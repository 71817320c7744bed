"""Mamba's selective scan against its definition: gradients, precision, memory, the kernel of mamba_ssm."""
import pytest
import torch
from torch.library import opcheck
from torch.utils.flop_counter import FlopCounterMode

from diffrwkvir_arch.archs import selective_scan as scans


def sequential(u, delta, A, B, C):
    """The definition, one token at a time; arguments as selective_scan."""
    h, y = 0, []
    for t in range(u.shape[1]):
        h = (delta[:, t, ..., None] * A).exp() * h + (delta[:, t] * u[:, t])[..., None] * B[:, t, :, None]
        y.append((h * C[:, t, :, None]).sum(-1))
    return torch.stack(y, 1)


def scan_inputs(length, dtype=torch.float64, decay=1.0):
    torch.manual_seed(length)
    u, delta, a, b, c = (torch.randn(shape, dtype=torch.float64) for shape in (
        (2, length, 2, 3), (2, length, 2, 3), (2, 3, 4), (2, length, 2, 4), (2, length, 2, 4)))
    return [x.to(dtype).requires_grad_() for x in (u, delta.abs(), -a.abs() * decay, b, c)]


def with_gradients(function, inputs):
    y = function(*inputs)
    # Any weights will do, as long as tokens differ in them.
    return [y, *torch.autograd.grad((y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum(), inputs)]


def errors(results, truth):
    return [((x.double() - y.double()).abs().max() / y.abs().max()).item() for x, y in zip(results, truth)]


# Chunks hold 1, 4, 16, 64, ... tokens, and 16 at most where `elements` is small.
@pytest.mark.parametrize('elements', [1, 2 ** 19])
@pytest.mark.parametrize('length', [1, 3, 4, 5, 8, 15, 16, 17, 65])
def test_the_chunked_scan_and_its_gradients_equal_the_definition(length, elements, monkeypatch):
    monkeypatch.setattr(scans, 'CHUNK_ELEMENTS_CPU', elements)
    inputs = scan_inputs(length)
    truth = with_gradients(sequential, inputs)
    # A single token has no gradient of A: nothing decays.
    assert max(error for error, y in zip(errors(with_gradients(scans.selective_scan, inputs), truth), truth)
               if y.any()) < 1e-10


@pytest.mark.parametrize('length', [1, 2, 7, 64, 65])
def test_what_is_exported_equals_the_definition(length):
    inputs = scan_inputs(length)
    torch.testing.assert_close(scans.plain(*inputs), sequential(*inputs), rtol=1e-10, atol=1e-10)


def test_float32_is_about_as_near_to_the_truth_as_the_definition_in_float32():
    truth = with_gradients(sequential, scan_inputs(200))
    inputs = scan_inputs(200, torch.float32)
    budgets = errors(with_gradients(sequential, inputs), truth)
    for error, budget in zip(errors(with_gradients(scans.selective_scan, inputs), truth), budgets):
        assert error <= 2 * budget + 1e-6


@pytest.mark.parametrize('decay', [0.0, 1e4, 1e30])
def test_no_and_strong_decay_stay_finite_and_exact_in_float32(decay):
    inputs = scan_inputs(40, torch.float32, decay)
    results = with_gradients(scans.selective_scan, inputs)
    assert all(x.isfinite().all() for x in results)
    assert errors(results[:1], with_gradients(sequential, scan_inputs(40, decay=decay)))[0] < 1e-5


def test_states_are_kept_between_chunks_alone_and_for_training_alone():
    inputs = scan_inputs(64)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        scans.selective_scan(*inputs)
    # One chunk of 64 tokens, entered with (batch, G, D, N).
    assert sum(x.numel() for x in kept) == sum(x.numel() for x in inputs) + 2 * 2 * 3 * 4
    assert scans.scan_op(*inputs, 8, False)[1].numel() == 0


def test_half_precision_is_scanned_in_float32_under_autocast_too():
    inputs = [x.detach().bfloat16() for x in scan_inputs(20)]
    expected = scans.selective_scan(*(x.float() for x in inputs))
    with torch.autocast('cpu', torch.bfloat16):
        y = scans.selective_scan(*inputs)
    assert y.dtype == torch.float32 and torch.equal(y, expected)


def test_the_kernel_of_mamba_ssm_gets_and_gives_its_own_layout():
    def kernel(u, delta, A, B, C):
        """As selective_scan_fn: u, delta (batch, G * D, L), A (G * D, N), B, C (batch, G, N, L)."""
        h, y = 0, []
        b, c = (x.repeat_interleave(u.shape[1] // x.shape[1], dim=1) for x in (B, C))
        for t in range(u.shape[2]):
            h = (delta[:, :, t, None] * A).exp() * h + (delta * u)[:, :, t, None] * b[..., t]
            y.append((h * c[..., t]).sum(-1))
        return torch.stack(y, 2)

    inputs = scan_inputs(9)
    torch.testing.assert_close(scans.through_kernel(kernel, *inputs), sequential(*inputs))


def test_opcheck_finds_no_fault_in_the_scan():
    opcheck(scans.scan_op, (*scan_inputs(5), 2, True))


def test_flops_are_nine_per_token_and_state_and_twice_that_backwards():
    inputs = scan_inputs(20)
    once = 9 * (2 * 20) * (2 * 3 * 4)
    with FlopCounterMode(display=False) as counter:
        y = scans.selective_scan(*inputs)
        assert counter.get_total_flops() == once
        y.sum().backward()
    assert counter.get_total_flops() == 3 * once
