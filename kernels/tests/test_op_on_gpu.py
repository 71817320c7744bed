"""The Triton backend as a citizen of PyTorch on a GPU: torch.library, compile, CUDA graphs, autocast, devices."""
import pytest
import torch
from op_cases import make_inputs
from torch.utils.checkpoint import checkpoint
from torch_cases import assert_all_equal, block_and_input, check_operator, compiled_differs, parameter_gradients

from state_evolution import state_evolution_2d

pytest.importorskip('triton')
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')]


def leaves(device='cuda'):
    """q, k, v and gates of an 8x8 image."""
    inputs = make_inputs(length=64, q_dim=16, v_dim=16, dtype=torch.float32)[:5]
    return [x.to(device).requires_grad_() for x in inputs]


def results(inputs):
    o = state_evolution_2d(*inputs, 8, 8, backend='triton')
    return o, *torch.autograd.grad(o.square().sum(), inputs)


@pytest.mark.parametrize('with_state', [False, True])
def test_opcheck_finds_no_fault_in_the_operator(with_state):
    check_operator('triton', with_state, 'cuda', torch.float32)


@pytest.mark.parametrize('compiler', ['aot_eager', 'inductor'])
@pytest.mark.parametrize('dynamic', [False, True])
def test_compile_traces_a_network_as_one_graph(compiler, dynamic):
    # PyTorch's own products may be summed in another order.
    assert compiled_differs('triton', compiler, 'cuda', dynamic) < 1e-3


def test_checkpointing_changes_no_gradient():
    block, x = block_and_input('triton', 'cuda')
    assert_all_equal(parameter_gradients(block, checkpoint(block, x, use_reentrant=False)),
                     parameter_gradients(block, block(x)))


def test_a_cuda_graph_replays_outputs_and_gradients_of_new_inputs():
    inputs = leaves()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            results(inputs)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = results(inputs)
    with torch.no_grad():
        inputs[2].mul_(-2)
    graph.replay()
    assert_all_equal(captured, results(inputs))


def test_autocast_does_not_touch_the_arithmetic():
    inputs = leaves()
    expected = results(inputs)
    with torch.autocast('cuda', torch.bfloat16):
        assert_all_equal(results(inputs), expected)


def test_deterministic_mode_which_fills_new_memory_with_nan_changes_nothing():
    inputs = leaves()
    expected = results(inputs)
    torch.use_deterministic_algorithms(True)
    try:
        assert_all_equal(results(inputs), expected)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason='needs two CUDA devices')
def test_tensors_may_be_on_another_device_than_the_current_one():
    assert_all_equal([x.cpu() for x in results(leaves('cuda:1'))], [x.cpu() for x in results(leaves('cuda:0'))])
