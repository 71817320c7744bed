"""The numba body beside the rest of a machine: threads, forked processes, its cache on disk."""
import multiprocessing
import os
import re
import subprocess
import sys
import threading

import pytest
import torch
from op_cases import make_inputs, relative_error
from torch.utils.data import DataLoader, Dataset

from state_evolution import DIRECTIONS, backends, state_evolution, state_evolution_2d

numba = pytest.importorskip('numba')

from state_evolution import numba_body, numba_kernels, threads

PROGRAM = """
import torch
from state_evolution import state_evolution
from state_evolution.numba_kernels import kernels
x = torch.ones(1, 5, 1, 4)
state_evolution(x, x / 2, x, -x[..., 0], x[..., 0], backend='numba')
(forward, _), _ = kernels(4, 4)
print(sum(forward.stats.cache_hits.values()), sum(forward.stats.cache_misses.values()))
"""


def results(count, directions=DIRECTIONS):
    torch.set_num_threads(count)
    tensors = [x.requires_grad_() for x in make_inputs(batch=1, length=35, heads=2, q_dim=8, v_dim=5)[:5]]
    o = state_evolution_2d(*tensors, 5, 7, directions=directions, backend='numba')
    return o, *torch.autograd.grad(o.square().sum(), tensors)


@pytest.fixture(params=['OpenMP', 'pool'])
def every_thread(request, monkeypatch):
    monkeypatch.setattr(numba_body, 'WORTH_A_THREAD', 0)
    if request.param == 'pool':
        monkeypatch.setattr(threads, 'openmp', lambda process: None)
    elif threads.openmp(os.getpid()) is None:
        pytest.skip('PyTorch has no OpenMP here that can be shared')


@pytest.mark.parametrize('count', [2, 3, 16])
def test_threads_change_nothing_but_rounding(every_thread, count):
    for result, expected in zip(results(count), results(1)):
        assert relative_error(result, expected) < 1e-13
    for result, again in zip(results(count), results(count)):
        assert torch.equal(result, again)


@pytest.mark.parametrize('count, scans, heads, groups', [
    (1, 4, 6, 1), (2, 4, 6, 1), (8, 4, 6, 2), (64, 4, 6, 4), (8, 1, 6, 1)])
def test_scans_run_beside_each_other_only_where_heads_do_not_fill_the_threads(count, scans, heads, groups):
    torch.set_num_threads(count)
    assert numba_body.count_groups(scans, heads) == groups


def test_as_many_threads_as_pytorch_has_share_the_tasks_and_none_its_scratch_memory(every_thread):
    def kernel(scratch, start, stop):
        if not stop:    # the first call only compiles
            return
        meeting.wait(timeout=20)    # passes once three are here at a time
        done.extend(range(start, stop))
        places.add(scratch.ctypes.data)

    meeting, done, places = threading.Barrier(3), [], set()
    torch.set_num_threads(3)
    numba_body.run(kernel, torch.empty(4), 6, 1)
    assert sorted(done) == list(range(6))
    assert len(places) == 3


def test_an_error_in_a_thread_is_not_lost(every_thread):
    def kernel(scratch, start, stop):
        if stop:
            raise MemoryError

    torch.set_num_threads(2)
    with pytest.raises(MemoryError):
        numba_body.run(kernel, torch.empty(4), 2, 1)


class Scans(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return results(2)[0].detach()


@pytest.mark.skipif('fork' not in multiprocessing.get_all_start_methods(), reason='processes do not fork here')
def test_forked_workers_compute_after_their_parent_used_threads(every_thread):
    expected = results(2)[0]
    for o in DataLoader(Scans(), batch_size=None, num_workers=2, multiprocessing_context='fork', timeout=60):
        assert torch.equal(o, expected)


def run_program(program=PROGRAM, said='', **environment):
    done = subprocess.run([sys.executable, '-c', program], env={**os.environ, **environment}, capture_output=True,
                          text=True, timeout=120)
    assert not done.returncode and re.fullmatch(said, done.stderr, re.DOTALL), done.stderr
    return tuple(map(int, done.stdout.split()))


def test_compiled_code_is_kept_on_disk(tmp_path):
    assert run_program(NUMBA_CACHE_DIR=str(tmp_path)) == (0, 1)
    assert run_program(NUMBA_CACHE_DIR=str(tmp_path)) == (1, 0)


@pytest.mark.parametrize('damaged, content', [('nbi', b''), ('nbc', b'no code')])
def test_damaged_files_of_compiled_code_are_replaced_with_one_warning(tmp_path, damaged, content):
    run_program(NUMBA_CACHE_DIR=str(tmp_path))
    for file in tmp_path.glob(f'*/*.{damaged}'):
        file.write_bytes(content)
    said = r'[^\n]+: UserWarning: state_evolution compiles anew what numba cannot read in [^\n]+\)\n[^\n]+\n'
    assert run_program(said=said, NUMBA_CACHE_DIR=str(tmp_path)) == (0, 1)
    assert run_program(NUMBA_CACHE_DIR=str(tmp_path)) == (1, 0)


def test_a_full_disk_keeps_no_compiled_code_and_stops_nothing(tmp_path):
    pytest.importorskip('resource', reason='needs limits of file sizes')
    full = 'import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))' + PROGRAM
    assert run_program(full, NUMBA_CACHE_DIR=str(tmp_path)) == (0, 1)
    assert run_program(NUMBA_CACHE_DIR=str(tmp_path)) == (0, 1)


def test_where_numba_must_not_compile_auto_is_chunked(monkeypatch):
    monkeypatch.setattr(numba.config, 'DISABLE_JIT', 1)
    backends.why_not.cache_clear()
    tensors = make_inputs(dtype=torch.float32)[:5]
    assert torch.equal(state_evolution(*tensors), state_evolution(*tensors, backend='chunked'))
    with pytest.raises(ValueError, match="'numba' cannot run here: .* NUMBA_DISABLE_JIT"):
        state_evolution(*tensors, backend='numba')
    monkeypatch.undo()
    backends.why_not.cache_clear()


def test_without_a_place_for_the_cache_it_compiles_anew(monkeypatch):
    def njit(cache=False, **options):
        if cache:
            raise RuntimeError('cannot cache function: no locator available')
        return real(**options)

    real = numba_kernels.njit
    monkeypatch.setattr(numba_kernels, 'njit', njit)
    assert numba_kernels.compiled(lambda x: x + 1)(1) == 2
