"""`basicsr export`: what other runtimes make of what it wrote, what is refused."""
import errno
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from compare_cases import DIFFUSING, EDSR, INPAINTING, build, write_method

from diffrwkvir_arch.cli import main
from diffrwkvir_arch.tools import export

SWINIR = {'type': 'SwinIR', 'upscale': 2, 'img_size': 16, 'window_size': 8, 'depths': [1], 'embed_dim': 8,
          'num_heads': [2], 'mlp_ratio': 2, 'upsampler': 'pixelshuffledirect'}
DIFFIR = {'type': 'DiffIRS2', 'scale': 2, 'n_encoder_res': 1, 'dim': 8, 'num_blocks': [1, 1, 1, 1],
          'num_refinement_blocks': 1}
MAMBAIR = {'type': 'MambaIR', 'upscale': 2, 'embed_dim': 8, 'd_state': 4, 'depths': [1], 'mlp_ratio': 2.,
           'upsampler': 'pixelshuffledirect', 'resi_connection': '1conv'}
ONNX = [pytest.param('onnx', marks=pytest.mark.skipif(not all(map(export.can_import, export.PACKAGES)),
                                                      reason='needs onnxruntime'))]


def masked(lq):
    mask = torch.zeros(1, 1, *lq.shape[-2:])
    mask[..., 4:9, 3:12] = 1
    return lq, mask


@pytest.mark.parametrize('ending', ['pt2', *ONNX])
@pytest.mark.parametrize('options, scale', [(DIFFUSING, 2), (INPAINTING, 1), (EDSR, 2), (SWINIR, 2), (DIFFIR, 2),
                                            (MAMBAIR, 2)])
def test_what_is_written_restores_as_the_network_does(workdir, capsys, ending, options, scale):
    write_method(workdir, 'one', options, seed=1, scale=scale)
    assert main(['export', '-m', 'one.yml', '-o', f'a file.{ending}', '--size', '18', '21']) == 0
    assert f'-> restored (1, 3, {18 * scale}, {21 * scale}); differs' in capsys.readouterr().out
    lq = torch.rand(1, 3, 18, 21)
    inputs = masked(lq) if options is INPAINTING else (lq, )
    net = build(options, 1)
    torch.manual_seed(0)    # DiffIR's noise, as `basicsr restore` draws it.
    with torch.no_grad():
        padded = torch.nn.functional.pad(lq, (0, 3, 0, 6), mode='reflect') if options is SWINIR else lq
        expected = net(padded, **dict(zip(['mask'], inputs[1:])))[..., :18 * scale, :21 * scale]
    restored = export.FORMATS[f'.{ending}'][-1](Path(f'a file.{ending}'), inputs)
    assert (restored - expected).abs().max() < 1e-5 and expected.std() > 0.05
    assert [path.name for path in Path().iterdir() if 'unfinished' in path.name] == []
    assert str(Path(export.__file__).parents[1]).encode() not in Path(f'a file.{ending}').read_bytes()


@pytest.mark.parametrize('options', [DIFFUSING, MAMBAIR])
def test_a_program_needs_nothing_of_this_package(workdir, options):
    write_method(workdir, 'one', options)
    assert main(['export', '-m', 'one.yml', '-o', 'net.pt2', '--size', '8', '12']) == 0
    script = ('import sys; sys.modules.update(diffrwkvir_arch=None, state_evolution=None, basicsr=None)\n'
              'import torch; print(torch.export.load("net.pt2").module()(torch.zeros(1, 3, 8, 12)).shape)')
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=True)
    assert '[1, 3, 16, 24]' in done.stdout


@pytest.mark.parametrize('arguments, message', [
    (['-o', 'net.pth'], '-o net.pth: must end in .onnx or .pt2'),
    (['-o', 'nowhere/net.pt2'], '-o nowhere/net.pt2: its folder does not exist'),
    (['-o', 'net.pt2', '--size', '0', '8'], '--size must be at least 1 1, got 0 8'),
    (['-o', 'net.pt2', '-m', 'bicubic'], '-m bicubic: there is no network to export'),
    (['-o', 'net.pt2', '-m', 'first.yml'], '-m first.yml: it reads its prior from the GT'),
    (['-o', 'net.pt2', '--scale', '3'], 'it is made for scale 2, --scale is 3'),
])
def test_what_cannot_be_exported_is_refused(workdir, capsys, arguments, message):
    write_method(workdir, 'one', EDSR)
    write_method(workdir, 'first', {**DIFFUSING, 'type': 'DiffRWKVIRS1'})
    assert main(['export', '-m', 'one.yml', '--size', '8', '8', *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(Path().glob('*net.*'))


def test_without_onnx_the_message_says_what_to_install(workdir, monkeypatch, capsys):
    write_method(workdir, 'one', EDSR)
    monkeypatch.setitem(sys.modules, 'onnxscript', None)
    assert main(['export', '-m', 'one.yml', '-o', 'net.onnx', '--size', '8', '8']) == 2
    assert "needs onnxscript: pip install 'diffrwkvir[onnx]'" in capsys.readouterr().err.replace('onnx, ', '')


def test_endings_may_be_capital(workdir):
    write_method(workdir, 'one', EDSR)
    assert main(['export', '-m', 'one.yml', '-o', 'NET.PT2', '--size', '8', '8']) == 0
    assert [path.name for path in Path().glob('*.PT2')] == ['NET.PT2']


def test_what_differs_from_the_network_is_not_kept(workdir, monkeypatch, capsys):
    write_method(workdir, 'one', EDSR)
    Path('net.pt2').write_text('an earlier one')
    *steps, run = export.FORMATS['.pt2']
    monkeypatch.setitem(export.FORMATS, '.pt2', (*steps, lambda *call: run(*call) + 0.01))
    assert main(['export', '-m', 'one.yml', '-o', 'net.pt2', '--size', '8', '8']) == 2
    assert 'differs from the network by 1.0e-02' in capsys.readouterr().err
    assert Path('net.pt2').read_text() == 'an earlier one' and len(list(Path().glob('*net*'))) == 1


def test_a_network_that_cannot_be_traced_is_told_by_name(workdir, monkeypatch, capsys):
    def untraceable(self, x):
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3) if x.sum() > 0 else x

    write_method(workdir, 'one', EDSR)
    monkeypatch.setattr('basicsr.archs.edsr_arch.EDSR.forward', untraceable)
    assert main(['export', '-m', 'one.yml', '-o', 'net.pt2', '--size', '8', '8']) == 2
    assert '-m one.yml: EDSR cannot be exported: ' in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_not_blamed_on_the_network(workdir, monkeypatch, capsys):
    def full(program, path):
        raise OSError(errno.ENOSPC, 'No space left on device')

    write_method(workdir, 'one', EDSR)
    trace, _, run = export.FORMATS['.pt2']
    monkeypatch.setitem(export.FORMATS, '.pt2', (trace, full, run))
    assert main(['export', '-m', 'one.yml', '-o', 'net.pt2', '--size', '8', '8']) == 2
    assert '-o net.pt2: cannot be written: [Errno 28] No space left' in capsys.readouterr().err


def test_of_errors_that_wrap_each_other_the_innermost_is_told(workdir, monkeypatch, capsys):
    def failing(module, inputs):
        try:
            raise ValueError('no formula for this operator')
        except ValueError as error:
            raise RuntimeError('conversion failed') from error

    write_method(workdir, 'one', EDSR)
    monkeypatch.setitem(export.FORMATS, '.pt2', (failing, *export.FORMATS['.pt2'][1:]))
    assert main(['export', '-m', 'one.yml', '-o', 'net.pt2', '--size', '8', '8']) == 2
    assert 'EDSR cannot be exported: no formula for this operator' in capsys.readouterr().err


def test_an_error_without_a_message_is_told_by_its_type(workdir, monkeypatch, capsys):
    def silent(module, inputs):
        raise AssertionError

    write_method(workdir, 'one', EDSR)
    monkeypatch.setitem(export.FORMATS, '.pt2', (silent, *export.FORMATS['.pt2'][1:]))
    assert main(['export', '-m', 'one.yml', '-o', 'net.pt2', '--size', '8', '8']) == 2
    assert 'EDSR cannot be exported: AssertionError' in capsys.readouterr().err


def test_without_a_method_the_weights_that_come_with_the_package_are_exported(workdir, capsys):
    assert main(['export', '-o', 'x2.pt2', '--size', '8', '12', '--scale', '2']) == 0
    assert 'lq (1, 3, 8, 12) -> restored (1, 3, 16, 24)' in capsys.readouterr().out
    assert main(['export', '-o', 'x6.pt2', '--size', '8', '12', '--scale', '6']) == 2
    assert '-m is missing: no weights for --scale 6' in capsys.readouterr().err
