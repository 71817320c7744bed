"""`basicsr restore`: tiles, what they share, what they tell, and what they take of the memory."""
import os
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from compare_cases import DIFFUSING, write_method
from drawing import draw
from restore_cases import read
from torch.utils._python_dispatch import TorchDispatchMode

from diffrwkvir_arch.archs.diffrwkvir_s2_arch import DiffRWKVIRS2
from diffrwkvir_arch.cli import main
from diffrwkvir_arch.tiling import restore_tiled
from diffrwkvir_arch.tools import restore
from diffrwkvir_arch.tools.comparison import methods
from diffrwkvir_arch.tools.comparison.network import finished
from diffrwkvir_arch.tools.restoration.picture import Picture
from diffrwkvir_arch.tools.restoration.progress import Progress


def test_tiles_of_a_network_with_a_prior_share_that_of_the_whole_image(mixed_photos, workdir, monkeypatch):
    write_method(workdir, 'two', DIFFUSING, seed=2)
    seen, extract_prior = [], DiffRWKVIRS2.extract_prior

    def watched(self, lq, *more, **options):
        seen.append(tuple(lq.shape))
        return extract_prior(self, lq, *more, **options)

    monkeypatch.setattr(DiffRWKVIRS2, 'extract_prior', watched)
    for out, more in (('whole', ()), ('tiles', ('--tile', '16'))):
        assert main(['restore', str(mixed_photos / 'colour.png'), '-m', 'two.yml', '-o', out, *more]) == 0
    assert seen == [(1, 3, 20, 26)] * 2
    whole, tiles = (read(f'{out}/colour.png').astype(int) for out in ('whole', 'tiles'))
    assert np.abs(whole - tiles).mean() < 1


def test_tiny_tiles_are_warned_of(mixed_photos, caplog):
    command = ['restore', 'my photos/grey.png', '-m', 'one.yml', '-o', 'out', '--force', '--tile']
    for tile, warned in (('31', True), ('32', False), ('0', False)):
        caplog.clear()
        assert main([*command, tile]) == 0
        assert ('--tile 31: tiles this small' in caplog.text) is warned


@pytest.mark.parametrize('more, steps', [((), 6), (('--self-ensemble', ), 48)])
def test_the_bar_moves_with_every_tile(mixed_photos, monkeypatch, capsys, more, steps):
    seen, update = [], Progress.update

    def watched(self, share):
        seen.append(self.n)
        return update(self, share)

    monkeypatch.setattr(Progress, 'update', watched)
    command = ['restore', str(mixed_photos / 'colour.png'), 'my photos/grey.png', '-m', 'one.yml', '-o', 'out', *more]
    assert main([*command, '--tile', '16']) == 0
    assert np.allclose(seen, [*np.arange(steps + 1) / steps, *(1 + np.arange(steps + 1) / steps)])
    assert seen[-1] == 2
    shown = capsys.readouterr().err
    assert f'colour.png: 26x20 to 52x40 in {steps} steps\n' in shown and 'TqdmWarning' not in shown


class Whole(TorchDispatchMode):
    """Keeps every tensor of at least so many numbers that is made meanwhile."""

    def __init__(self, numbers):
        super().__init__()
        self.numbers, self.made = numbers, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.numel() >= self.numbers:
            self.made.append(out)
        return out

    def count(self):
        return len({tensor.untyped_storage().data_ptr() for tensor in self.made})


def test_of_a_tiled_result_one_copy_in_floats_is_made(workdir, monkeypatch):
    monkeypatch.setattr('diffrwkvir_arch.tools.restoration.picture.ROWS', 16)
    cv2.imwrite('a.png', draw(64, 80, 0))
    picture = Picture(Path('a.png'))
    lq = picture.to_batch('cpu')
    with torch.no_grad(), Whole(3 * 256 * 320) as whole:
        result = restore_tiled(lambda piece: piece.repeat_interleave(4, -1).repeat_interleave(4, -2), lq, 4, 16, 4)
        result = finished(result, lq, None)
        tracemalloc.start()
        image = picture.like_this(result)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert whole.count() == 1 and peak < 2 * image.nbytes
    assert np.array_equal(image, read('a.png').repeat(4, 0).repeat(4, 1))


@pytest.mark.parametrize('arguments, tiles', [([], [16, None]), (['--tile', '0'], [None, None]),
                                              (['--tile', '10', '--overlap', '3'], [10, 10])])
def test_large_images_are_restored_in_tiles_unless_told_otherwise(mixed_photos, monkeypatch, arguments, tiles):
    monkeypatch.setattr(restore, 'LARGE', 400)
    monkeypatch.setattr(restore, 'TILE_OF_LARGE', 16)
    assert cv2.imwrite('small.png', draw(12, 26, 0))
    seen, restored = [], methods.Network.restore

    def watched(self, lq, **options):
        seen.append(options['tile'])
        return restored(self, lq, **options)

    monkeypatch.setattr(methods.Network, 'restore', watched)
    assert main(['restore', 'my photos/colour.png', 'small.png', '-m', 'one.yml', '-o', 'out', *arguments]) == 0
    assert seen == tiles and read('out/colour.png').shape == (40, 52, 3)


def test_an_image_too_large_for_the_memory_is_told_and_the_others_go_on(mixed_photos, monkeypatch, capsys):
    restored = methods.Network.restore

    def hungry(self, lq, **options):
        if lq.shape[-1] == 26 and options['tile'] is None:
            raise torch.cuda.OutOfMemoryError('CUDA out of memory')
        return restored(self, lq, **options)

    monkeypatch.setattr(methods.Network, 'restore', hungry)
    assert cv2.imwrite('small.png', draw(12, 20, 0))
    command = ['restore', str(mixed_photos / 'colour.png'), 'small.png', '-m', 'one.yml', '-o', 'out']
    assert main(command) == 1 and os.listdir('out') == ['small.png']
    said = capsys.readouterr().out
    assert 'colour.png: too large for the memory of cpu; restore it alone, in tiles, --tile 256' in said
    assert main(['restore', str(mixed_photos / 'colour.png'), *command[3:], '--tile', '16']) == 0
