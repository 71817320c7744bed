"""`basicsr prepare` once more over what an earlier call has left, finished or not."""
import os
from pathlib import Path

import cv2
import pytest
from drawing import draw
from prepare_cases import SMALL, names, run, save

from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.tools.preparation import lmdbs, sources


def test_an_old_dataset_that_was_half_removed_does_not_stop_the_next(photos):
    command = ['my photos', '-o', 'datasets/DF2K', '--scales', 2]
    run(*command)
    leftover = Path('datasets/DF2K/.prepare/DF2K_HR.replaced')
    leftover.mkdir(parents=True)
    (leftover / 'a.png').touch()
    run(*command, '--force')
    assert names('datasets/DF2K/DF2K_HR') == ['a.png', 'b.png', 'c.png'] and not leftover.exists()


def test_an_unfinished_lmdb_is_not_continued_with_other_images(photos, monkeypatch):
    command = ['my photos', '-o', 'datasets/DF2K', '--scales', 2]
    write_lines = lmdbs.write_lines
    monkeypatch.setattr(lmdbs, 'write_lines', lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(*command, '--lmdb')
    monkeypatch.setattr(lmdbs, 'write_lines', write_lines)
    save('my photos/a.png', draw(36, 36, 9))
    run(*command, '--force')
    run(*command, '--lmdb')
    with lmdbs.lmdb.open('datasets/DF2K/DF2K_HR.lmdb', readonly=True, lock=False) as environment:
        stored = environment.begin().get(b'a')
    assert stored == Path('datasets/DF2K/DF2K_HR/a.png').read_bytes()


def test_the_list_is_that_of_the_folder_that_was_made(photos):
    command = ['my photos', '-o', 'datasets/DF2K', '--scales', 2]
    run(*command, *SMALL)
    for name in ('DF2K_HR_sub', 'DF2K_bicx2_sub'):
        for path in Path('datasets/DF2K', name).iterdir():
            path.unlink()
        os.rmdir(f'datasets/DF2K/{name}')
    run(*command, '--sub', '--crop-size', 24, '--step', 24)
    listed = Path('datasets/DF2K/meta_info_DF2K_HR_sub.txt').read_text().split('\n')[:-1]
    assert [line.split(' ')[0] for line in listed] == names('datasets/DF2K/DF2K_HR_sub')


def test_links_to_nowhere_are_named_and_circles_walked_once(photos):
    os.symlink(os.path.abspath('my photos'), 'my photos/again')
    assert len(sources.images_of(Path('my photos'), recursive=True)) == 3
    os.symlink('nowhere.png', 'my photos/x.png')
    with pytest.raises(InputError, match='x.png: No such file'):
        run('my photos', '-o', 'datasets/DF2K', '--scales', 2)


def test_a_full_disk_is_told_in_one_line(photos, monkeypatch):
    def full(*_):
        raise lmdbs.lmdb.DiskError('mdb_txn_commit: No space left on device')

    monkeypatch.setattr(lmdbs, 'copy_batch', full)
    with pytest.raises(InputError, match='DF2K_HR.lmdb: mdb_txn_commit: No space left on device'):
        run('my photos', '-o', 'datasets/DF2K', '--scales', 2, '--lmdb')
    assert cv2.imread('datasets/DF2K/DF2K_HR/a.png') is not None
