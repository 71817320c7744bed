"""`basicsr restore`: the same command continues where it stopped, and replaces nothing that was made otherwise."""
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from compare_cases import EDSR, INPAINTING, write_method
from drawing import draw
from restore_cases import read

from diffrwkvir_arch.cli import main
from diffrwkvir_arch.tools.comparison import methods


def test_it_goes_on_where_it_was_and_replaces_on_demand_alone(mixed_photos, capsys, monkeypatch):
    command = ['restore', str(mixed_photos), '-m', 'one.yml', '-o', 'out']
    seen, restored = [], methods.Network.restore

    def interrupted(self, lq, **options):
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return restored(self, lq, **options)

    monkeypatch.setattr(methods.Network, 'restore', interrupted)
    assert main(command) == 130 and 'the same command continues' in capsys.readouterr().err
    assert main(command) == 0 and len(seen) == 5 and len(os.listdir('out')) == 4
    assert '2 images restored, 2 were there already' in capsys.readouterr().out
    assert main([*command, '--force']) == 0 and len(seen) == 9


@pytest.mark.parametrize('change, what', [
    ([], 'another image'),
    (['-m', 'other.yml'], 'another method'),
    (['-m', 'bicubic', '--scale', '3'], 'another method; scale 2, not 3'),
    (['--tile', '16'], 'tile default, not 16; overlap 16, not 8'),
    (['--self-ensemble'], 'self_ensemble False, not True'),
    (['--amp', 'bf16'], 'amp default, not bf16'),
])
def test_what_was_made_otherwise_is_neither_taken_for_done_nor_replaced(mixed_photos, workdir, capsys, change, what):
    write_method(workdir, 'other', EDSR, seed=2)
    command = ['restore', 'my photos/colour.png', 'my photos/grey.png', '-m', 'one.yml', '-o', 'out']
    assert main(command) == 0
    if not change:
        os.replace('my photos/clear.png', 'my photos/colour.png')
    before = Path('out/colour.png').read_bytes()
    assert main([*command, *change]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f'out/colour.png ({what}); give another -o, or --force' in error
    assert Path('out/colour.png').read_bytes() == before
    assert main([*command, *change, '--force']) == 0 and Path('out/colour.png').read_bytes() != before
    assert main([*command, *change]) == 0 and '2 were there already' in capsys.readouterr().out


def test_a_file_of_another_program_is_not_replaced(mixed_photos, capsys):
    os.mkdir('out')
    cv2.imwrite('out/colour.png', draw(4, 4, 0))
    assert main(['restore', 'my photos', '-m', 'one.yml', '-o', 'out']) == 2
    assert 'out/colour.png (it does not say what it was made from)' in capsys.readouterr().err
    assert read('out/colour.png').shape == (4, 4, 3) and os.listdir('out') == ['colour.png']


def test_weights_may_move_and_are_the_same(mixed_photos):
    command = ['restore', 'my photos/colour.png', '-o', 'out', '-m']
    assert main([*command, 'one.yml']) == 0
    os.rename('one.pth', 'moved.pth')
    os.utime('moved.pth', (1, 1))
    assert main([*command, 'one.yml:moved.pth']) == 0


def test_a_method_that_does_not_exist_is_told_where_nothing_is_left_to_do_too(mixed_photos, capsys):
    command = ['restore', 'my photos', '--scale', '2', '-o', 'out', '-m']
    assert main([*command, 'bicubic']) == 0
    for name, meant in (('bicubik', 'bicubic'), ('DiffRWKVIR-tiny_x5.pth', 'DiffRWKVIR-tiny_x4.pth')):
        assert main([*command, name]) == 2
        assert f"{name} does not exist (did you mean '{meant}'?)" in capsys.readouterr().err


def test_another_mask_is_another_result(mixed_photos, workdir, capsys):
    write_method(workdir, 'fill', INPAINTING, scale=1)
    (workdir / 'masks').mkdir()
    mask = np.zeros((20, 26), np.uint8)
    command = ['restore', 'my photos/colour.png', '-m', 'fill.yml', '-o', 'out', '--masks', 'masks']
    for row, code in ((5, 0), (6, 2)):
        mask[row, 8:20] = 255
        cv2.imwrite('masks/colour.png', mask)
        assert main(command) == code
    assert 'another mask' in capsys.readouterr().err
