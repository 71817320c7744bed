"""What cannot be computed is refused before anything is computed, and the message names the argument."""
import sys

import numpy as np
import pytest
import torch
from op_cases import BACKENDS, NAMES, make_inputs

from state_evolution import backends, state_evolution, state_evolution_2d
from state_evolution.backends import why_not


def inputs(**changes):
    return {**dict(zip(NAMES, make_inputs(dtype=torch.float32))), **changes}


def zeros(*shape, **kwargs):
    return torch.zeros(*shape, **kwargs)


# The inputs are q, k (2, 20, 2, 4), v (2, 20, 2, 3), gates (2, 20, 2), initial_state (2, 2, 3, 4).
@pytest.mark.parametrize('change, error, words', [
    ({'backend': 'cuda'}, ValueError, "backend must be one of .*got 'cuda'"),
    ({'chunk_size': 0}, ValueError, 'chunk_size must be .*got 0'),
    ({'chunk_size': 2.5}, ValueError, 'chunk_size must be .*got 2.5'),
    ({'chunk_size': '16'}, ValueError, "chunk_size must be .*got '16'"),
    ({'chunk_size': True}, ValueError, 'chunk_size must be .*got True'),
    ({'q': [1.]}, TypeError, 'q must be a tensor, got list'),
    ({'v': zeros(2, 20, 2, 3, dtype=torch.long)}, TypeError, 'v must be float16.*got torch.int64'),
    ({'v': zeros(2, 20, 2, 3).to(torch.float8_e4m3fn)}, TypeError, 'v must be float16.*got torch.float8'),
    ({'k': zeros(2, 20, 2, 4).to_sparse()}, TypeError, 'k must be a dense tensor, got torch.sparse_coo'),
    ({'k': torch.nested.nested_tensor([zeros(20, 2, 4)], layout=torch.jagged)}, TypeError, 'k .*got a nested one'),
    ({'k': zeros(2, 20, 2, 4, device='meta')}, ValueError, 'one device: q is on cpu, k on meta'),
    ({'q': zeros(2, 20, 4)}, ValueError, r'q must be \(B, L, H, Dk\).*got \(2, 20, 4\)'),
    ({'q': zeros(2, 0, 2, 4)}, ValueError, r'q must be .*got \(2, 0, 2, 4\)'),
    ({'k': zeros(2, 20, 2, 5)}, ValueError, r'k must have the shape of q.*got \(2, 20, 2, 5\)'),
    ({'v': zeros(2, 19, 2, 3)}, ValueError, r'v must be \(B, L, H, Dv\) = \(2, 20, 2, Dv\), got \(2, 19, 2, 3\)'),
    ({'v': zeros(2, 20, 2, 129)}, ValueError, r'Dk and Dv must be in 1\.\.128.*Dv = 129'),
    ({'q': zeros(2, 20, 2, 129), 'k': zeros(2, 20, 2, 129)}, ValueError, r'must be in 1\.\.128.*Dk = 129'),
    ({'log_decay': zeros(2, 20)}, ValueError, r'log_decay must be \(2, 20, 2\), got \(2, 20\)'),
    ({'step_size': zeros(1, 2, 20, 2)}, ValueError, r'step_size must be \(2, 20, 2\), got \(1, 2, 20, 2\)'),
    ({'initial_state': zeros(2, 2, 4, 3)}, ValueError, r'initial_state must be .* \(2, 2, 3, 4\), got \(2, 2, 4, 3\)'),
])
def test_sequences_that_cannot_be_computed_are_refused(change, error, words):
    with pytest.raises(error, match=words):
        state_evolution(**inputs(**change))


@pytest.mark.parametrize('change, error, words', [
    ({'height': 4, 'width': 6}, ValueError, r'height \* width must be L = 20, got 4 \* 6'),
    ({'height': -4, 'width': -5}, ValueError, r'height \* width must be L = 20, got -4 \* -5'),
    ({'height': 4., 'width': 5}, TypeError, r'height must be an integer, got 4\.0'),
    ({'height': '4', 'width': '5'}, TypeError, "height must be an integer, got '4'"),
    ({'height': 4, 'width': None}, TypeError, 'width must be an integer, got None'),
    ({'height': True, 'width': 20}, TypeError, 'height must be an integer, got True'),
    ({'height': torch.tensor(4.)}, TypeError, r'height must be an integer, got tensor\(4\.\)'),
    ({'height': torch.tensor([4])}, TypeError, r'height must be an integer, got tensor\(\[4\]\)'),
    ({'height': torch.tensor([4, 4])}, TypeError, r'height must be an integer, got tensor\(\[4, 4\]\)'),
    ({'height': 0, 'width': 0}, ValueError, r'height \* width must be L = 20, got 0 \* 0'),
    ({'directions': ('forward', 'sideways')}, ValueError, "directions must be among .*got 'sideways'"),
    ({'directions': (name for name in ())}, ValueError, 'directions must name at least one'),
    ({'directions': 'forward'}, TypeError, r"directions must be a sequence of names, such as .*, got 'forward'"),
    ({'directions': 2}, TypeError, r"directions must be a sequence of names, such as \('forward',\), got 2"),
    ({'log_decay': zeros(3, 2, 20, 2)}, ValueError, r'log_decay must be \(2, 20, 2\) or \(4, 2, 20, 2\), got \(3,'),
    ({'backend': 'Triton'}, ValueError, "backend must be one of .*got 'Triton'"),
    ({'chunk_size': -1}, ValueError, 'chunk_size must be .*got -1'),
])
def test_images_that_cannot_be_computed_are_refused(change, error, words):
    arguments = {**inputs(), 'height': 4, 'width': 5, **change}
    del arguments['initial_state']
    with pytest.raises(error, match=words):
        state_evolution_2d(**arguments)


def test_a_backend_that_cannot_run_says_why(monkeypatch):
    tensors = {name: x for name, x in inputs().items() if name != 'initial_state'}
    monkeypatch.setitem(sys.modules, 'state_evolution.numba_body', None)
    why_not.cache_clear()
    with pytest.raises(ValueError, match="backend 'numba' cannot run here: numba cannot be imported.*pip install"):
        state_evolution(**tensors, backend='numba')
    why_not.cache_clear()
    with pytest.raises(ValueError, match="backend 'numba' cannot run here: .*these are on meta"):
        state_evolution(**{name: x.to('meta') for name, x in tensors.items()}, backend='numba')


@pytest.mark.parametrize('device, fast', [('cpu', 'numba'), ('cuda:0', 'triton')])
@pytest.mark.parametrize('error', [ImportError('too old'), OSError('no such library'), RuntimeError('broken\nin words'),
                                   AttributeError()])
def test_auto_does_without_a_broken_backend_and_warns_once(monkeypatch, device, fast, error):
    def broken(*name):
        raise error

    monkeypatch.setattr(backends, 'import_module', broken)
    why_not.cache_clear()
    backends.warn_once.cache_clear()
    with pytest.warns(match=f"takes 'chunked', which is slower: backend '{fast}' .*pip install -U {fast}$") as warned:
        chosen = [backends.choose_backend('auto', torch.device(device), torch.float32) for _ in range(2)]
    why_not.cache_clear()
    assert chosen == ['chunked'] * 2
    assert len(warned) == 1 and '\n' not in str(warned[0].message)


@pytest.mark.parametrize('device', ['mps', 'xpu', 'meta'])
def test_auto_is_chunked_on_other_devices(device, recwarn):
    assert backends.choose_backend('auto', torch.device(device), torch.float32) == 'chunked'
    assert not recwarn


def test_a_misspelt_option_is_refused():
    with pytest.raises(TypeError, match='chunksize'):
        state_evolution(**inputs(chunksize=16))


@pytest.mark.parametrize('backend', BACKENDS)
def test_integers_of_numpy_are_integers_and_do_not_overflow(backend):
    *tensors, state = make_inputs(length=300, dtype=torch.float32)
    for size in (np.int64(7), np.uint8(200)):
        assert torch.equal(state_evolution(*tensors, initial_state=state, chunk_size=size, backend=backend),
                           state_evolution(*tensors, initial_state=state, chunk_size=int(size), backend=backend))
    expected = state_evolution_2d(*tensors, 15, 20, backend=backend)
    for kind in (np.int64, np.uint8):
        assert torch.equal(state_evolution_2d(*tensors, kind(15), kind(20), backend=backend), expected)
