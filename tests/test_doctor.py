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
    assert verdict in row and text.endswith('1 faults\n')


def test_a_network_that_computes_wrongly_is_found(monkeypatch, capsys):
    original = torch.nn.Module.float
    monkeypatch.setattr(torch.nn.Module, 'float', lambda self: original(self).requires_grad_(False).apply(
        lambda part: part.weight.mul_(1.01) if isinstance(part, torch.nn.Conv2d) else None))
    assert main(['doctor']) == 1
    assert 'on cpu: largest difference' in capsys.readouterr().out


def test_what_is_missing_is_told_with_its_remedy(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setattr(doctor, 'find_spec', lambda module: None)
    assert main(['doctor']) == 0
    text = capsys.readouterr().out
    assert "spandrel: missing, pip install 'diffrwkvir[peers]'" in text
    assert f'{tmp_path}/hub/checkpoints/vgg16-397923af.pth is missing: download https://' in text


def test_shipped_weights_that_are_gone_are_a_fault(monkeypatch, capsys):
    def gone(path):
        raise InputError(f'{path} does not exist')

    monkeypatch.setattr(doctor, 'from_checkpoint', gone)
    assert main(['doctor']) == 1
    assert 'on cpu: FAILED: DiffRWKVIR-tiny_x4.pth does not exist' in capsys.readouterr().out
