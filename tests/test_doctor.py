"""`basicsr doctor`: tells what is there, and finds what computes wrongly."""

import pytest
import torch

from diffrwkvir_arch.cli import main
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.tools import doctor


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(doctor, 'LARGE', doctor.SMALL)
    monkeypatch.setattr(doctor, 'devices', lambda: [torch.device('cpu')])


def test_a_sound_machine_has_no_faults(capsys):
    assert main(['doctor']) == 0
    text = capsys.readouterr().out
    assert f'torch {torch.__version__.split("+")[0]}' in text and text.endswith('no faults\n')
    rows = [line for line in text.splitlines() if line.startswith('| cpu')]
    assert len(rows) == 3 and sum(' (auto) ' in row for row in rows) == 1
    assert sum(row.rstrip(' |').endswith('ok') for row in rows) >= 2 and 'on cpu: largest difference' in text


@pytest.mark.parametrize('spoil, verdict', [
    (lambda x: x * 1.001, 'WRONG: more than 1e-05'), (lambda x: x * float('nan'), 'WRONG'),
    (lambda x: x / torch.tensor(0).nothing, "FAILED: 'Tensor' object has no attribute 'nothing'")])
@pytest.mark.parametrize('spoilt', [0, 3])
def test_a_backend_that_computes_wrongly_is_found(monkeypatch, capsys, spoil, verdict, spoilt):
    right = doctor.run_operator

    def wrong(inputs, side, backend):
        found = right(inputs, side, backend)
        return found if backend != 'chunked' else [spoil(x) if n == spoilt else x for n, x in enumerate(found)]

    monkeypatch.setattr(doctor, 'run_operator', wrong)
    assert main(['doctor']) == 1
    text = capsys.readouterr().out
    row, = [line for line in text.splitlines() if line.startswith('| cpu') and ' chunked ' in line]
    assert verdict in row and text.endswith('1 fault\n')


@pytest.mark.parametrize('factor', [1.01, float('nan')])
def test_a_network_that_computes_wrongly_is_found(monkeypatch, capsys, factor):
    original = torch.nn.Module.float
    monkeypatch.setattr(torch.nn.Module, 'float', lambda self: original(self).requires_grad_(False).apply(
        lambda part: part.weight.mul_(factor) if isinstance(part, torch.nn.Conv2d) else None))
    assert main(['doctor']) == 1
    line, = [line for line in capsys.readouterr().out.splitlines() if line.startswith('on cpu: largest difference')]
    assert line.endswith('WRONG: more than 0.002')


def test_every_device_is_checked_against_float64(monkeypatch, capsys):
    right, seen = doctor.run_operator, []

    def watched(inputs, side, backend):
        seen.append((backend, inputs[0].dtype))
        return right(inputs, side, backend)

    monkeypatch.setattr(doctor, 'run_operator', watched)
    monkeypatch.setattr(doctor, 'devices', lambda: 2 * [torch.device('cpu')])
    assert main(['doctor']) == 0
    text = capsys.readouterr().out
    assert text.count('| cpu ') == 6 and text.count('on cpu: largest') == 2
    assert {dtype for backend, dtype in seen if backend == 'recurrent'} == {torch.float64}


def test_a_gpu_that_does_not_start_is_a_fault(monkeypatch, capsys):
    def broken(device):
        raise RuntimeError('CUDA driver initialization failed')

    monkeypatch.setattr(torch.cuda, 'get_device_properties', broken)
    monkeypatch.setattr(doctor, 'devices', lambda: [torch.device('cpu'), torch.device('cuda', 0)])
    assert main(['doctor']) == 1
    text = capsys.readouterr().out
    assert 'cuda:0: FAILED: CUDA driver initialization failed' in text and 'on cpu: largest difference' in text


def test_what_is_missing_is_told_with_its_remedy(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setattr(doctor, 'find_spec', lambda module: None)
    assert main(['doctor']) == 0
    text = capsys.readouterr().out
    assert "spandrel missing, pip install 'diffrwkvir[peers]'" in text
    assert 'onnx, onnxscript, onnxruntime missing' in text
    assert f'{tmp_path}/hub/checkpoints/vgg16-397923af.pth is missing: download https://' in text


def test_shipped_weights_that_are_gone_are_a_fault(monkeypatch, capsys):
    def gone(path):
        raise InputError(f'{path} does not exist')

    monkeypatch.setattr(doctor, 'from_checkpoint', gone)
    assert main(['doctor']) == 1
    text = capsys.readouterr().out
    assert 'on cpu: FAILED: ' in text and 'DiffRWKVIR-tiny_x4.pth does not exist' in text
