"""The operator behaves as a citizen of PyTorch: dtypes, autocast, memory, compile, checkpoints, DDP, FLOP counters."""
import copy
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from op_cases import BACKENDS, BODIES, make_inputs, relative_error
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode
from torch_cases import (assert_all_equal, block_and_input, check_operator, compiled_differs,
                         parameter_gradients)

from state_evolution import state_evolution, state_evolution_2d
from state_evolution.operators import OPERATORS

HALVES = (torch.bfloat16, torch.float16)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('dtype', HALVES)
def test_half_precision_goes_in_and_out_while_states_and_sums_are_float32(backend, dtype):
    *tensors, state = [x.requires_grad_() for x in make_inputs(length=40, dtype=dtype)]
    o, last = state_evolution(*tensors, initial_state=state, return_state=True, backend=backend)
    assert o.dtype == dtype and last.dtype == torch.float32
    *singles, state32 = [x.detach().float() for x in (*tensors, state)]
    o32, last32 = state_evolution(*singles, initial_state=state32, return_state=True, backend=backend)
    assert torch.equal(o, o32.to(dtype)) and torch.equal(last, last32)
    grads = torch.autograd.grad(o.sum() + last.sum(), (*tensors, state))
    assert [grad.dtype for grad in grads] == [dtype] * 6


@pytest.mark.parametrize('backend', BACKENDS)
def test_mixed_dtypes_follow_v(backend):
    q, k, v, log_decay, step_size, _ = make_inputs(dtype=torch.float32)
    o, state = state_evolution(q, k, v.bfloat16(), log_decay, step_size, return_state=True, backend=backend)
    assert o.dtype == torch.bfloat16 and state.dtype == torch.float32


@pytest.mark.parametrize('backend', BACKENDS)
def test_float64_stays_float64(backend):
    *tensors, _ = make_inputs()
    o, state = state_evolution(*tensors, return_state=True, backend=backend)
    assert o.dtype == state.dtype == torch.float64
    assert relative_error(o, state_evolution(*tensors, backend='recurrent')) < 1e-13


@pytest.mark.parametrize('backend', BACKENDS)
def test_autocast_does_not_touch_the_arithmetic(backend):
    def run(autocast):
        with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
            o = state_evolution(*tensors, initial_state=state, backend=backend)
        return o, *torch.autograd.grad(o.sum(), (*tensors, state))

    *tensors, state = [x.requires_grad_() for x in make_inputs(length=40, q_dim=16, v_dim=16, dtype=torch.float32)]
    assert_all_equal(run(autocast=True), run(autocast=False))


@pytest.mark.parametrize('backend', BODIES)
def test_backward_under_autocast_stays_float32(backend):
    tensors = [x.requires_grad_() for x in make_inputs(length=40, q_dim=16, v_dim=16, dtype=torch.float32)[:5]]
    expected = torch.autograd.grad(state_evolution(*tensors, backend=backend).sum(), tensors)
    with torch.autocast('cpu', torch.bfloat16):
        assert_all_equal(torch.autograd.grad(state_evolution(*tensors, backend=backend).sum(), tensors), expected)


@pytest.mark.parametrize('backend', BODIES)
def test_a_network_trains_under_autocast(backend):
    block, x = block_and_input(backend)
    with torch.autocast('cpu', torch.bfloat16):
        o = block(x)
    grads = parameter_gradients(block, o.float())
    assert o.dtype == torch.bfloat16 and all(grad.isfinite().all() and grad.any() for grad in grads)


@pytest.mark.parametrize('backend', BACKENDS)
def test_strided_inputs_are_read_right_and_no_input_is_written(backend):
    inputs = make_inputs(length=40)
    strided = [x.transpose(0, -1).contiguous().transpose(0, -1) for x in inputs]
    copies = [x.clone() for x in strided]
    for group in (inputs, strided):
        for x in group:
            x.requires_grad_()

    def run(*tensors, state):
        o, last = state_evolution(*tensors, initial_state=state, return_state=True, backend=backend)
        return o, last, *torch.autograd.grad(o.sum() + last.sum(), (*tensors, state))

    assert_all_equal(run(*strided[:5], state=strided[5]), run(*inputs[:5], state=inputs[5]))
    assert_all_equal(strided, copies)


@pytest.mark.parametrize('backend', BACKENDS)
def test_deterministic_mode_which_fills_new_memory_with_nan_changes_nothing(backend):
    def run():
        o, last = state_evolution(*tensors, initial_state=state, return_state=True, backend=backend)
        return o, last, *torch.autograd.grad(o.sum() + last.sum(), (*tensors, state))

    *tensors, state = [x.requires_grad_() for x in make_inputs(length=37)]
    expected = run()
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(3).isnan().all()
        results = run()
    finally:
        torch.use_deterministic_algorithms(False)
    assert_all_equal(results, expected)


@pytest.mark.parametrize('backend', BODIES)
def test_outputs_may_be_changed_in_place(backend):
    def gradients(change):
        o, last = state_evolution(*tensors, return_state=True, backend=backend)
        return torch.autograd.grad(sum(change(x, 2).sum() for x in (o, last)), tensors)

    tensors = [x.requires_grad_() for x in make_inputs(length=20)[:5]]
    assert_all_equal(gradients(torch.Tensor.mul_), gradients(torch.mul))


@pytest.mark.parametrize('backend', BODIES)
def test_without_kept_states_there_is_no_backward_pass(backend):
    q, k, v, log_decay, step_size, _ = [x.requires_grad_() for x in make_inputs(length=6)]
    o, *_ = OPERATORS[backend](q, k, v, log_decay[None], step_size[None], None, 1, 6, [0], 2, False)
    with pytest.raises(RuntimeError, match='kept no states'):
        o.sum().backward()


@pytest.mark.parametrize('length', [64, 640])
@pytest.mark.parametrize('backend', BODIES)
def test_backward_keeps_only_the_inputs_and_the_states_between_chunks(backend, length):
    tensors = [x.requires_grad_() for x in make_inputs(1, length, 2, 8, 4)]
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        state_evolution(*tensors[:5], initial_state=tensors[5], chunk_size=16, backend=backend)
    size = {x.data_ptr(): x.numel() for x in kept if x.is_floating_point()}
    states = (length // 16 + (backend == 'chunked')) * 2 * 8 * 4    # chunked also keeps the last
    assert sum(size.values()) == sum(x.numel() for x in tensors[:5]) + states


@pytest.mark.parametrize('needed, enabled, kept', [(True, True, True), (True, False, False), (False, True, False)])
@pytest.mark.parametrize('backend', BODIES)
def test_states_between_chunks_are_kept_only_for_training(backend, needed, enabled, kept):
    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if func is getattr(torch.ops.state_evolution, backend).default:
                seen.append(len(result[2]) > 0)
            return result

    seen = []
    tensors = [x.requires_grad_(needed) for x in make_inputs(length=32)[:5]]
    with Watch(), torch.set_grad_enabled(enabled):
        state_evolution(*tensors, backend=backend)
    assert seen == [kept]


@pytest.mark.parametrize('with_state', [False, True])
@pytest.mark.parametrize('backend', BODIES)
def test_opcheck_finds_no_fault_in_the_operator(backend, with_state):
    check_operator(backend, with_state)


@pytest.mark.parametrize('backend', BODIES)
def test_compile_traces_a_network_as_one_graph(backend):
    assert compiled_differs(backend, 'aot_eager') < 1e-5


@pytest.mark.parametrize('backend', BODIES)
def test_checkpointing_changes_no_gradient(backend):
    block, x = block_and_input(backend)
    assert_all_equal(parameter_gradients(block, checkpoint(block, x, use_reentrant=False)),
                     parameter_gradients(block, block(x)))


@pytest.mark.parametrize('backend', BODIES)
def test_a_deep_copy_computes_the_same(backend):
    block, x = block_and_input(backend)
    assert torch.equal(copy.deepcopy(block)(x), block(x))


@pytest.mark.skipif(not dist.is_available() or dist.is_initialized(), reason='needs to open its own process group')
@pytest.mark.parametrize('backend', BODIES)
def test_distributed_data_parallel_trains_it(backend):
    dist.init_process_group('gloo', store=dist.HashStore(), rank=0, world_size=1)
    try:
        block, x = block_and_input(backend)
        expected = parameter_gradients(block, block(x))
        nn.parallel.DistributedDataParallel(block)(x).square().sum().backward()
        assert_all_equal([p.grad for p in block.parameters()], expected)
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize('backend', ['recurrent', *BODIES])
def test_flop_counter_equals_the_count_by_hand(backend):
    tensors = [x.requires_grad_() for x in make_inputs(batch=2, length=20, heads=2, q_dim=4, v_dim=3)]
    # Three products of 4 x 3 per token, head and sample; each multiply-add is two operations.
    once = 2 * 3 * (4 * 3) * 20 * 2 * 2
    with FlopCounterMode(display=False) as counter:
        o = state_evolution(*tensors[:5], initial_state=tensors[5], backend=backend)
        assert counter.get_total_flops() == once
        o.sum().backward()
    assert counter.get_total_flops() == 3 * once
    with FlopCounterMode(display=False) as counter:
        state_evolution_2d(*tensors[:5], 4, 5, directions=('forward', 'upward'), backend=backend)
    assert counter.get_total_flops() == 2 * once


@pytest.mark.parametrize('backend', BODIES)
def test_mmengine_counts_the_same_multiply_adds(backend):
    analysis = pytest.importorskip('mmengine.analysis')
    block, x = block_and_input(backend)
    counts = analysis.FlopAnalyzer(block, (x,)).by_operator()
    assert counts[backend] == 4 * 3 * (4 * 4) * 20 * 2 * 2
    told = analysis.get_model_complexity_info(block, inputs=(x,), show_table=False, show_arch=False)
    assert told['flops'] == sum(counts.values())


@pytest.mark.parametrize('missing', ['mmengine', 'mmengine.analysis', 'mmengine.analysis.complexity_analysis'])
def test_without_mmengine_all_else_works(missing):
    code = f'import sys; sys.modules[{missing!r}] = None; from state_evolution import state_evolution_2d'
    subprocess.run([sys.executable, '-c', code], check=True)


def test_a_compiled_call_is_refused_in_the_same_words():
    inputs = make_inputs(dtype=torch.float32)[:5]

    @torch.compile(backend='eager')
    def call(inputs, **options):
        return state_evolution(*inputs, **options)

    with pytest.raises(ValueError, match="^backend must be one of .*got 'cuda'$"):
        call(inputs, backend='cuda')
    with pytest.raises(ValueError, match="^backend 'triton' cannot run here: [^\n]*$"):
        call(inputs, backend='triton')
