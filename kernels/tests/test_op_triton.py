"""The Triton kernels compute the definition: on a GPU if there is one, and everywhere through Triton's interpreter."""
import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

triton = pytest.importorskip('triton')

from op_cases import REGIMES, make_inputs, relative_error
from triton_cases import CASES, changed_by_strides, measure, public_face
from triton_compiled import AbsentGpu

from state_evolution import state_evolution, triton_body, triton_plan

# Beyond twice the error of plain PyTorch.
ROUNDING = 1e-6


# Batch, length, heads, channels: few streams, cut into segments, many, and more than are prepared at once.
SHAPES = [(1, 65536, 1, 16), (1, 65536, 6, 32), (1, 4099, 3, 64), (1, 2051, 2, 128), (192, 333, 6, 16),
          (192, 333, 6, 32), (96, 333, 6, 64), (64, 4096, 6, 32)]


def on_gpu(test):
    return pytest.mark.gpu(pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')(test))


@pytest.fixture(scope='session')
def interpreted(tmp_path_factory):
    """Reports on all cases. The interpreter must be chosen before Triton is imported: another process computes them."""
    path = tmp_path_factory.mktemp('triton') / 'results.json'
    environment = {**os.environ, 'TRITON_INTERPRET': '1', 'OMP_NUM_THREADS': '1'}
    script = Path(__file__).with_name('triton_cases.py')
    subprocess.run([sys.executable, script, path], env=environment, check=True)
    return json.loads(path.read_text())


def assert_within_budget(report):
    for name, finding in report.items():
        if name == 'same bits again':
            assert finding
        else:
            error, plain_error = finding
            assert error <= 2 * plain_error + ROUNDING, name


@pytest.mark.parametrize('dtype', ['float32', 'float16'])
@pytest.mark.parametrize('case', CASES)
def test_results_and_gradients_are_within_budget(interpreted, case, dtype):
    assert_within_budget(interpreted[f'{case}, {dtype}'])


def test_strides_change_no_bit(interpreted):
    assert interpreted['changed by strides'] == []


def test_users_reach_the_kernels_and_their_gradients(interpreted):
    assert_within_budget(dict(enumerate(interpreted['public face'])))


def test_opcheck_checkpointing_and_compile_accept_the_operator(interpreted):
    assert interpreted['compiled differs'] < 1e-5


@on_gpu
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('case', CASES)
def test_results_and_gradients_are_within_budget_on_a_gpu(case, dtype):
    assert_within_budget(measure(CASES[case], dtype, 'cuda'))


@on_gpu
def test_strides_change_no_bit_on_a_gpu():
    assert changed_by_strides('cuda') == []


@on_gpu
def test_users_reach_the_kernels_and_their_gradients_on_a_gpu():
    assert_within_budget(dict(enumerate(public_face('cuda'))))


@on_gpu
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('batch, length, heads, dim', SHAPES)
def test_the_programs_chosen_for_a_shape_are_within_budget_twice_alike_on_a_gpu(dtype, batch, length, heads, dim):
    def results(inputs, backend):
        inputs = [x.detach().requires_grad_() for x in inputs]
        o, last = state_evolution(*inputs[:5], initial_state=inputs[5], return_state=True, backend=backend)
        # Scaled: float16 would not hold the gradients of its gates.
        loss = 1e-3 * (o.float().square().sum() + last.square().sum())
        return o, last, *torch.autograd.grad(loss, inputs)

    regimes = list(REGIMES)[:batch]
    inputs = [x.to('cuda', dtype) for x in make_inputs(max(1, batch // len(regimes)), length, heads, dim, dim, regimes)]
    first, again = results(inputs, 'triton'), results(inputs, 'triton')
    plain, truth = results(inputs, 'chunked'), results([x.double() for x in inputs], 'chunked')
    for x, y, z, t in zip(first, again, plain, truth):
        assert torch.equal(x, y)
        budget = 2 * relative_error(z, t) + ROUNDING
        assert budget < 1 and relative_error(x, t) <= budget


def plan_of(dtype, batch, length, heads, dim, directions=1):
    x, gate = torch.empty(batch, length, heads, dim, dtype=dtype, device='meta'), torch.empty(batch, length, heads)
    return triton_plan.Plan(x, x, x, gate[None], gate[None], 1, length, [0] * directions)


def test_the_shapes_for_a_gpu_are_cut_into_slabs_into_segments_and_not_at_all():
    plans = [plan_of(torch.bfloat16, *shape) for shape in SHAPES]
    assert {(len(plan.slabs()) > 1, plan.segment < plan.slab) for plan in plans} == \
        {(False, False), (False, True), (True, False)}


@pytest.mark.parametrize('shape', [(1, 2 ** 22, 1, 16), (16, 2 ** 16, 6, 32), (64, 2 ** 12, 16, 128)])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_what_is_prepared_at_once_is_bounded_and_covers_all_chunks(dtype, shape):
    plan = plan_of(dtype, *shape, directions=4)
    slabs = plan.slabs()
    assert max(count for _, count in slabs) * plan.streams * triton_plan.chunk_bytes(dtype) <= triton_plan.SCRATCH
    assert [first for first, _ in slabs] == [sum(count for _, count in slabs[:i]) for i in range(len(slabs))]
    assert sum(count for _, count in slabs) == plan.chunks


@pytest.mark.parametrize('device, dtype, words', [
    ('cpu', torch.float32, 'on NVIDIA GPUs, these are on cpu'),
    ('cuda', torch.float64, 'not in float64'),
])
def test_what_triton_cannot_compute_it_says(device, dtype, words):
    assert words in triton_body.why_not(torch.device(device), dtype)


def test_more_directions_than_an_integer_holds_are_refused():
    inputs = [torch.empty(1, 1, 1, 1) for _ in range(3)] + [torch.empty(32, 1, 1, 1) for _ in range(2)]
    with pytest.raises(ValueError, match='at most 31 directions a call, got 32'):
        triton_plan.Plan(*inputs, 1, 1, [0] * 32)


@contextmanager
def absent_gpu(driver):
    """Triton with this driver, while PyTorch finds a GPU of compute capability 9.0."""
    triton.runtime.driver.set_active(driver)
    try:
        with patch.object(torch.cuda, 'get_device_capability', lambda device: (9, 0)), \
                patch.object(torch.cuda, 'device', nullcontext):
            yield torch.device('cuda:0')
    finally:
        with suppress(RuntimeError):    # Without a GPU there is no driver to go back to.
            triton.runtime.driver.reset_active()


class NoDriver:
    def get_current_device(self):
        raise RuntimeError('Failed to find C compiler\nin any place')


def test_without_a_driver_triton_is_left_out_and_says_why():
    with absent_gpu(NoDriver()) as device:
        assert re.fullmatch(r"Triton \S+ cannot compile \(Failed to find C compiler\); it needs .*",
                            triton_body.why_not(device, torch.float32))


def test_without_a_folder_to_compile_into_triton_is_left_out_and_says_why(tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    with absent_gpu(AbsentGpu(90)) as device:
        monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path / 'file' / 'cache'))
        assert re.search(r'Not a directory.* and a folder to write to \(TRITON_CACHE_DIR\)',
                         triton_body.why_not(device, torch.float32))
        monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path))
        assert triton_body.why_not(device, torch.float32) is None


def test_a_triton_to_come_is_taken_as_long_as_it_compiles_what_the_kernels_use(tmp_path, monkeypatch):
    monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path))
    with absent_gpu(AbsentGpu(80)) as device:
        # What a chunk's log_decay goes through, as if it had another name by then.
        monkeypatch.delattr(triton.language, 'PropagateNan')
        assert re.search(r"cannot compile \(.*has no attribute 'PropagateNan'.*\); it needs",
                         triton_body.why_not(device, torch.float32))
        monkeypatch.undo()
        monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path))
        assert triton_body.why_not(device, torch.float32) is None
    program = "import triton; triton.__version__ = '4.0.0+git1234'; import state_evolution.triton_body"
    subprocess.run([sys.executable, '-c', program], check=True)


@pytest.mark.parametrize('capability, hip, words', [((7, 5), None, 'compute capability 8.0 or newer, cuda:0 has 7.5'),
                                                    ((9, 4), '6.4', 'cuda:0 is one of AMD')])
def test_gpus_that_it_is_not_written_for_are_left_out(monkeypatch, capability, hip, words):
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: capability)
    monkeypatch.setattr(torch.version, 'hip', hip)
    assert words in triton_body.why_not(torch.device('cuda:0'), torch.float32)
