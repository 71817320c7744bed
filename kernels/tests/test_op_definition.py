"""The recurrence is Eq. 5, and the chunk form computes it: outputs, states and every gradient."""
import math
import sys
from functools import cache

import pytest
import torch
from op_cases import BACKENDS, BODIES, NAMES, OTHERS, REGIMES, make_inputs, relative_error
from torch.autograd import gradcheck, gradgradcheck

from state_evolution import backends, chunked_body, state_evolution

FLOAT32_BUDGET = 5e-5


def run(inputs, backend, chunk_size=None):
    *tensors, state = inputs
    return state_evolution(*tensors, initial_state=state, return_state=True, chunk_size=chunk_size, backend=backend)


def gradients(inputs, backend, chunk_size=None):
    """Of a fixed random weighting of the output and of the last state, so that both paths carry gradient."""
    inputs = [x.detach().requires_grad_() for x in inputs]
    results = run(inputs, backend, chunk_size)
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.dtype) for x in results]
    return torch.autograd.grad(results, inputs, weights)


def test_recurrent_is_equation_5_written_with_matrices():
    q, k, v, log_decay, step_size, state = make_inputs(batch=1, length=6, heads=1)
    o, last = run((q, k, v, log_decay, step_size, state), 'recurrent')
    s = state[0, 0]
    for t in range(6):
        k_t, v_t = k[0, t], v[0, t]    # (1, D) rows
        w, e = log_decay[0, t, 0].exp(), step_size[0, t, 0]
        s = s @ (w * torch.eye(4) - e * k_t.T @ k_t) + e * v_t.T @ k_t
        assert torch.allclose(o[0, t], q[0, t] @ s.T, atol=1e-12)
    assert torch.allclose(last[0, 0], s, atol=1e-12)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('length', [1, 7])
def test_gradients_of_every_input_match_finite_differences(backend, length):
    inputs = [x.requires_grad_() for x in make_inputs(length=length)]
    assert gradcheck(lambda *x: run(x, backend, chunk_size=3), inputs)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('used', [0, 1])
def test_output_or_last_state_alone_carries_gradient(backend, used):
    inputs = [x.requires_grad_() for x in make_inputs(batch=1, length=5)]
    assert gradcheck(lambda *x: run(x, backend, chunk_size=2)[used], inputs)


@pytest.mark.parametrize('backend', ['recurrent', 'plain'])
def test_what_is_no_operator_differentiates_twice(backend):
    inputs = [x.requires_grad_() for x in make_inputs(batch=1, length=3, heads=1, q_dim=2, v_dim=2)]
    assert gradgradcheck(lambda *x: run(x, backend, 2), inputs)


@pytest.mark.parametrize('backend', BODIES)
def test_operators_refuse_to_differentiate_twice(backend):
    inputs = [x.requires_grad_() for x in make_inputs(batch=1, length=3)]
    o, _ = run(inputs, backend)
    grad, = torch.autograd.grad(o.sum(), inputs[1], create_graph=True)
    with pytest.raises(NotImplementedError, match='second derivative'):
        grad.sum().backward()


@cache
def inputs_and_truth(length):
    batch, heads, dim = (1, 1, 8) if length == 65536 else (1, 2, 16)
    inputs = make_inputs(batch, length, heads, dim, dim, regimes=REGIMES)
    with torch.no_grad():
        return inputs, run(inputs, 'recurrent')


@pytest.mark.parametrize('length', [1, 15, 16, 17, 4096, 65536])
@pytest.mark.parametrize('backend', OTHERS)
def test_other_bodies_equal_recurrent_at_every_length_in_every_regime(backend, length):
    inputs, truth = inputs_and_truth(length)
    for result, expected in zip(run(inputs, backend), truth):
        assert relative_error(result, expected) < 1e-10
    for result, expected in zip(run([x.float() for x in inputs], backend), truth):
        assert result.dtype == torch.float32
        assert relative_error(result, expected) < FLOAT32_BUDGET


@pytest.mark.parametrize('regime', REGIMES)
@pytest.mark.parametrize('backend', OTHERS)
def test_every_float32_gradient_is_within_budget(backend, regime):
    inputs = make_inputs(length=259, q_dim=16, v_dim=8, regimes=[regime])
    truth = gradients(inputs, 'recurrent')
    for name, grad, expected in zip(NAMES, gradients([x.float() for x in inputs], backend), truth):
        assert relative_error(grad, expected) < FLOAT32_BUDGET, name


@pytest.mark.parametrize('regime', REGIMES)
def test_numba_errs_at_most_twice_as_much_as_chunked(regime):
    pytest.importorskip('numba')
    inputs = make_inputs(length=259, q_dim=16, v_dim=8, regimes=[regime])
    truth = *run(inputs, 'recurrent'), *gradients(inputs, 'recurrent')
    singles = [x.float() for x in inputs]
    chunked, numba = ((*run(singles, backend), *gradients(singles, backend)) for backend in ('chunked', 'numba'))
    for name, result, yardstick, expected in zip(('o', 'state', *NAMES), numba, chunked, truth):
        assert relative_error(result, expected) <= 2 * relative_error(yardstick, expected) + 1e-6, name


@pytest.mark.parametrize('chunk_size', [1, 5, 16, 33, 64, 1000])
@pytest.mark.parametrize('backend', OTHERS)
def test_chunk_size_changes_nothing_but_rounding(backend, chunk_size):
    inputs = make_inputs(length=100, regimes=REGIMES)
    results = *run(inputs, backend, chunk_size), *gradients(inputs, backend, chunk_size)
    expected = *run(inputs, 'recurrent'), *gradients(inputs, 'recurrent')
    for result, truth in zip(results, expected):
        assert relative_error(result, truth) < 1e-10


@pytest.mark.parametrize('q_dim, v_dim', [(1, 1), (1, 128), (128, 1), (24, 40)])
@pytest.mark.parametrize('backend', OTHERS)
def test_any_pair_of_widths_works(backend, q_dim, v_dim):
    inputs = make_inputs(batch=1, length=37, heads=3, q_dim=q_dim, v_dim=v_dim)
    results = *run(inputs, backend), *gradients(inputs, backend)
    expected = *run(inputs, 'recurrent'), *gradients(inputs, 'recurrent')
    for result, truth in zip(results, expected):
        assert relative_error(result, truth) < 1e-10


@pytest.mark.parametrize('elements', [1, 300])
def test_computing_few_chunks_at_a_time_changes_nothing(monkeypatch, elements):
    inputs = make_inputs(length=50)
    expected = *run(inputs, 'chunked', 4), *gradients(inputs, 'chunked', 4)
    monkeypatch.setattr(chunked_body, 'SLAB_ELEMENTS_CPU', elements)
    for result, truth in zip((*run(inputs, 'chunked', 4), *gradients(inputs, 'chunked', 4)), expected):
        assert relative_error(result, truth) < 1e-12


@pytest.mark.parametrize('chunk_size', [16, 64])
@pytest.mark.parametrize('backend', OTHERS)
def test_constant_image_without_decay_stays_finite_and_right(backend, chunk_size):
    q, k, v, log_decay, step_size, state = make_inputs(batch=1, length=1, q_dim=32, v_dim=32)
    q, k, v = (x.expand(-1, 1024, -1, -1) for x in (q, k, v))
    log_decay = torch.zeros_like(log_decay).expand(-1, 1024, -1)
    step_size = torch.ones_like(step_size).expand(-1, 1024, -1)
    inputs = q, k, v, log_decay, step_size, state
    results = run([x.float() for x in inputs], backend, chunk_size)
    for result, truth in zip(results, run(inputs, 'recurrent')):
        assert relative_error(result, truth) < FLOAT32_BUDGET
    assert all(grad.isfinite().all() for grad in gradients([x.float() for x in inputs], backend, chunk_size))


@pytest.mark.parametrize('backend', OTHERS)
def test_growth_instead_of_decay_is_computed_as_defined(backend):
    q, k, v, log_decay, step_size, state = make_inputs(length=40)
    inputs = q, k, v, -log_decay / 10, step_size, state
    results = *run(inputs, backend), *gradients(inputs, backend)
    for result, truth in zip(results, (*run(inputs, 'recurrent'), *gradients(inputs, 'recurrent'))):
        assert relative_error(result, truth) < 1e-10


@pytest.mark.parametrize('backend', OTHERS)
def test_decay_below_the_smallest_float_is_forgetting_not_nan(backend):
    q, k, v, log_decay, step_size, state = make_inputs(length=40)
    inputs = q, k, v, torch.full_like(log_decay, -200.), step_size, state
    results = run([x.float() for x in inputs], backend), gradients([x.float() for x in inputs], backend)[:3]
    expected = run(inputs, 'recurrent'), gradients(inputs, 'recurrent')[:3]
    for result, truth in zip(sum(results, ()), sum(expected, ())):
        assert relative_error(result, truth) < FLOAT32_BUDGET


@pytest.mark.parametrize('regime', ['random', 'flat image'])
@pytest.mark.parametrize('log_decay', [-100., -1e6, -math.inf])
@pytest.mark.parametrize('backend', OTHERS)
def test_a_token_that_forgets_everything_costs_its_neighbours_no_accuracy(backend, log_decay, regime):
    inputs = make_inputs(length=60, q_dim=16, v_dim=8, regimes=[regime])
    inputs[3][:, [0, 15, 16, 40]] = log_decay
    truth = *run(inputs, 'recurrent'), *gradients(inputs, 'recurrent')
    for dtype, budget in ((torch.float64, 1e-10), (torch.float32, FLOAT32_BUDGET)):
        rounded = [x.to(dtype) for x in inputs]
        results = *run(rounded, backend), *gradients(rounded, backend)
        for name, result, expected in zip(('o', 'state', *NAMES), results, truth):
            assert relative_error(result, expected) < budget, name


@pytest.mark.parametrize('backend', BACKENDS)
def test_two_halves_joined_by_the_state_equal_the_whole(backend):
    *tensors, state = make_inputs(length=41)
    o, last = run((*tensors, state), backend)
    o1, middle = run((*(x[:, :18] for x in tensors), state), backend)
    o2, end = run((*(x[:, 18:] for x in tensors), middle), backend)
    assert torch.allclose(torch.cat([o1, o2], 1), o, atol=1e-12)
    assert torch.allclose(end, last, atol=1e-12)


@pytest.mark.parametrize('backend', BACKENDS)
def test_no_initial_state_is_a_zero_state(backend):
    *tensors, state = make_inputs()
    assert torch.equal(state_evolution(*tensors, backend=backend), run((*tensors, torch.zeros_like(state)), backend)[0])


@pytest.mark.parametrize('backend', BODIES)
def test_auto_on_a_cpu_is_numba_where_that_is_installed(backend, monkeypatch):
    if backend == 'chunked':
        monkeypatch.setitem(sys.modules, 'state_evolution.numba_body', None)    # importing it fails
    backends.why_not.cache_clear()
    *tensors, _ = make_inputs(length=40, dtype=torch.float32)
    assert torch.equal(state_evolution(*tensors), state_evolution(*tensors, backend=backend))
    assert not torch.equal(state_evolution(*tensors), state_evolution(*tensors, backend='recurrent'))
    backends.why_not.cache_clear()
