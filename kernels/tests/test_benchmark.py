"""What the benchmark times is the same operator in every column, and its report says what it could not run."""
import csv
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from op_cases import NAMES, make_inputs, relative_error

from state_evolution import state_evolution, state_evolution_2d

BENCHMARKS = str(Path(__file__).parents[1] / 'benchmarks')
sys.path.insert(0, BENCHMARKS)

import compare
import machine
import peers
import timing
from bodies import Case
from bodies import make_inputs as make_timed_inputs

SIZE = 4
TOKEN_LOOP = '''
import torch
from op_cases import make_inputs
from state_evolution import state_evolution_2d
from token_loop import token_loop

*inputs, _ = make_inputs(batch=1, length=12, heads=2, q_dim=5, v_dim=3)
do = torch.randn(inputs[2].shape, dtype=torch.float64)

def results(function, dtype):
    leaves = [x.to(dtype).requires_grad_() for x in inputs]
    o = function(*leaves)
    return o, *torch.autograd.grad(o, leaves, do.to(dtype))

def definition(*x):
    return state_evolution_2d(*x, 3, 4, backend='recurrent')

for x, truth in zip(results(lambda *x: token_loop(*x, 3, 4), torch.float32), results(definition, torch.float64)):
    print(((x - truth).norm() / truth.norm()).item())
'''


def test_token_loop_and_its_gradients_are_the_definition():
    pytest.importorskip('triton')
    path = os.pathsep.join([BENCHMARKS, str(Path(__file__).parent)])
    environment = {**os.environ, 'TRITON_INTERPRET': '1', 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1'}
    run = subprocess.run([sys.executable, '-c', TOKEN_LOOP], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    errors = [float(line) for line in run.stdout.split()]
    assert len(errors) == 6 and max(errors) < 1e-6


def gated_delta_rule(q, k, v, g, beta, scale):
    """Yang et al. 2024: the error is predicted from the state after its decay; g (B, L, H), or per channel of k."""
    g = g if g.dim() == 4 else g[..., None]
    state, o = 0., []
    for t in range(q.shape[1]):
        state = state * g[:, t, :, None].exp()
        error = v[:, t] - (state * k[:, t, :, None]).sum(-1)
        state = state + (beta[:, t, :, None] * error)[..., None] * k[:, t, :, None]
        o.append((state * scale * q[:, t, :, None]).sum(-1))
    return torch.stack(o, dim=1), None


def rwkv7(r, w, k, v, a, b, scale):
    """Peng et al. 2025: S_t = S_{t-1} (diag(w) + a^T b) + v^T k."""
    state, o = 0., []
    for t in range(r.shape[1]):
        read = (state * a[:, t, :, None]).sum(-1, keepdim=True)
        state = state * w[:, t, :, None].exp() + read * b[:, t, :, None] + v[:, t, ..., None] * k[:, t, :, None]
        o.append((state * scale * r[:, t, :, None]).sum(-1))
    return torch.stack(o, dim=1), None


RECURRENCES = {'gdn': gated_delta_rule, 'kda': gated_delta_rule, 'rwkv7': rwkv7}


@pytest.mark.parametrize('regime', ['random', 'decay near 0.01', 'flat image'])
@pytest.mark.parametrize('name', peers.FLA)
def test_state_evolution_is_a_case_of_every_peer(name, regime):
    *inputs, _ = make_inputs(regimes=(regime,))
    o, _ = RECURRENCES[name](**peers.FLA[name][0](*inputs))
    assert relative_error(o, state_evolution(*inputs, backend='recurrent')) < 1e-12


@pytest.fixture
def fake_package(monkeypatch):
    """Puts a function where a package would have it."""
    def install(module, name, function):
        fake = ModuleType(module)
        setattr(fake, name, function)
        for parent in (module.rsplit('.', n)[0] for n in range(1, module.count('.') + 1)):
            monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
        monkeypatch.setitem(sys.modules, module, fake)
    peers.load.cache_clear()
    yield install
    peers.load.cache_clear()


@pytest.mark.parametrize('name', peers.FLA)
def test_four_copies_through_a_peer_give_the_four_directions_and_their_gradients(name, fake_package):
    fake_package(*peers.FLA[name][1:], RECURRENCES[name])
    *inputs, _ = make_inputs(length=SIZE * SIZE)
    inputs = [x.requires_grad_() for x in inputs]
    do = torch.randn(inputs[2].shape, dtype=torch.float64)
    o = peers.fla_2d(name, *inputs, size=SIZE)
    truth = state_evolution_2d(*inputs, SIZE, SIZE, backend='recurrent')
    assert relative_error(o, truth) < 1e-12
    for tensor, x, y in zip(NAMES, torch.autograd.grad(o, inputs, do), torch.autograd.grad(truth, inputs, do)):
        assert relative_error(x, y) < 1e-12, tensor


def test_the_selective_scan_reads_four_orders_and_adds_them_at_their_pixels(fake_package):
    def sums_so_far(u, delta, A, B, C, D, delta_bias, delta_softplus):
        assert u.dtype == delta.dtype == B.dtype == C.dtype == torch.float32
        assert u.shape == delta.shape and A.shape == (u.shape[1], B.shape[2])
        return u.cumsum(-1)

    fake_package('mamba_ssm.ops.selective_scan_interface', 'selective_scan_fn', sums_so_far)
    x, *others = peers.selective_scan_inputs(2, 3, SIZE, torch.bfloat16, 'cpu')
    o = peers.selective_scan_2d(x, *others, SIZE).view(x.shape)

    rows, columns = x.float().flatten(2), x.float().mT.flatten(2)
    there_and_back = [y.cumsum(-1) + y.flip(-1).cumsum(-1).flip(-1) for y in (rows, columns)]
    assert torch.allclose(o, there_and_back[0].view(x.shape) + there_and_back[1].view(x.shape).mT, atol=1e-5)


def test_a_package_that_fails_to_import_says_why_whatever_it_raises(monkeypatch, tmp_path):
    (tmp_path / 'broken_peer.py').write_text("raise ValueError('refuses this Triton')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match='broken_peer.scan cannot be imported: ValueError: refuses this Triton'):
        peers.load('broken_peer', 'scan')


@pytest.mark.parametrize('dtype', ['bf16', 'fp32'])
def test_the_floor_moves_every_input_and_result_once(dtype):
    case = Case(2, SIZE, 3, 8, dtype)
    inputs = make_timed_inputs(case, 'cpu')
    o = inputs[2]
    read, written = [*inputs, *inputs, o], [o, *inputs]    # both passes: inputs twice and do; o and the gradients
    passes = {'forward': [*inputs, o], 'backward': [*inputs, o, *inputs], 'forward+backward': read + written}
    for pass_name, moved in passes.items():
        seconds = machine.floor_milliseconds(case, pass_name, bandwidth=1., rate=float('inf')) / 1e3
        assert seconds == sum(x.numel() * x.element_size() for x in moved)


def test_peak_memory_counts_what_is_freed_before_the_call_ends():
    def call():
        first = torch.empty(1000)
        second = first.new_empty(500)
        del first
        return second

    assert timing.peak_extra_bytes(call, 'cpu') == 6000


@pytest.fixture
def run_compare(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(compare, 'copy_bandwidth', lambda device: 1e10)
        monkeypatch.setattr(compare, 'matmul_rate', lambda device: 1e11)
        case = '--device cpu --batch 1 --size 4 --heads 1x4 --dtype fp32 --repeats 3'.split()
        monkeypatch.setattr(sys, 'argv', ['compare.py', *case, *arguments])
        compare.main()
        return capsys.readouterr().out
    return run


def test_every_body_is_in_the_table_or_below_it_with_a_reason(run_compare, tmp_path):
    path = tmp_path / 'times.csv'
    report = run_compare('--backends', 'chunked', 'recurrent', 'gdn', '--csv', str(path))
    assert '| pass | chunked | recurrent | floor |' in report
    assert '- `gdn`: ValueError: its kernels need a CUDA device' in report
    rows = list(csv.DictReader(path.open()))
    assert [(row['pass'], row['body']) for row in rows] == [
        (name, body) for name in ('forward', 'backward', 'forward+backward')
        for body in ('chunked', 'recurrent', 'floor')]
    assert all(float(row['ms_median']) > 0 for row in rows)


def test_a_machine_that_breaks_down_halfway_costs_only_what_was_to_come(run_compare, monkeypatch):
    def break_down(calls, device, repeats, seconds):
        if len(finished) == 3:    # the passes
            raise RuntimeError('illegal memory access\nand a long tale')
        finished.append(calls)
        return {name: [1., 2., 3.] for name in calls}

    finished = []
    monkeypatch.setattr(compare, 'time_in_turns', break_down)
    report = run_compare('--backends', 'chunked', '--heads', '1x4', '2x4')
    assert '| 1x4x4 | 1x4 | fp32 | forward | 2 (1.5 .. 2.5) |' in report
    assert '- `everything` (from 1x4x4, 2x4, fp32 on): RuntimeError: illegal memory access\n' in report


@pytest.mark.parametrize('arguments, message', [
    (('--size', '0'), "an integer >= 1 is needed, got '0'"),
    (('--heads', '6'), "heads are given as HxD, such as 6x32, got '6'"),
    (('--backends', 'cudnn'), "invalid choice: 'cudnn'"),
])
def test_an_option_that_cannot_be_meant_is_refused(arguments, message, run_compare, capsys):
    with pytest.raises(SystemExit):
        run_compare(*arguments)
    assert message in capsys.readouterr().err
