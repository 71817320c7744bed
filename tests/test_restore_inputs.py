"""`basicsr restore`: which files it takes, what it passes over, and where the results go."""
import errno
import os
import shlex
import tempfile
from pathlib import Path

import cv2
import pytest
from drawing import draw
from PIL import Image

from diffrwkvir_arch.cli import main
from diffrwkvir_arch.tools import restore
from diffrwkvir_arch.tools.restoration.formats import FORMATS

ENLARGE = ['-m', 'bicubic', '--scale', '2', '-o', 'out']


def save(path):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw(8, 9, 0)).save(path)


def results():
    return sorted(path.relative_to('out').as_posix() for path in Path('out').rglob('*') if path.is_file())


def test_a_video_is_told_the_way_by_frames(workdir, capsys):
    clip = "my clip's.MP4"
    Path(clip).touch()
    assert main(['restore', clip, *ENLARGE]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"basicsr: error: {clip} is a video; restore its frames: ") and said.count('\n') == 1
    assert f'ffmpeg -i {shlex.quote(clip)} frames/%06d.png' in said and not Path('out').exists()


def test_a_full_disk_names_the_result_and_leaves_no_part_of_it(workdir, capsys, monkeypatch):
    save('a.png')

    def full(*names):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(os, 'replace', full)
    assert main(['restore', 'a.png', *ENLARGE]) == 2
    assert f'no space left on device for {Path("out/a.png")}\n' in capsys.readouterr().err
    assert results() == []


def test_subfolders_are_kept_and_otherwise_told(workdir, capsys):
    for name in ('a.png', 'sub/a.png', 'sub/deeper/b.png', '.hidden/c.png'):
        save(f'photos/{name}')
    Path('photos/notes.txt').touch()
    Path('photos/sub/b.TXT').touch()
    assert main(['restore', 'photos', *ENLARGE]) == 0
    assert 'passed over: 1 .txt, 1 subfolder (see --recursive)\n' in capsys.readouterr().out
    assert results() == ['a.png']
    assert main(['restore', 'photos', '--recursive', *ENLARGE]) == 0
    said = capsys.readouterr().out
    assert 'passed over: 2 .txt\n' in said and '2 images restored, 1 was there already' in said
    assert results() == ['a.png', 'sub/a.png', 'sub/deeper/b.png']


def test_images_of_one_stem_keep_their_endings(workdir, capsys):
    for name in ('a.png', 'a.jpg', 'b.png'):
        save(f'photos/{name}')
    assert main(['restore', 'photos', *ENLARGE]) == 0
    assert results() == ['a.jpg.png', 'a.png.png', 'b.png']


def test_a_file_that_is_named_twice_is_restored_once(workdir, capsys):
    save('photos/a.png')
    assert main(['restore', 'photos', 'photos/a.png', './photos', *ENLARGE]) == 0
    assert '1 image restored' in capsys.readouterr().out and results() == ['a.png']


@pytest.mark.parametrize('name, kind', [('a.gif', 'GIF'), ('a.JPE', 'JPEG'), ('a.jfif', 'JPEG')])
def test_what_opencv_reads_is_taken_by_whatever_ending(workdir, name, kind):
    if kind == 'GIF' and not cv2.haveImageWriter('.gif'):
        pytest.skip('this OpenCV reads no GIF')
    os.mkdir('photos')
    Image.fromarray(draw(8, 9, 0)).save(f'photos/{name}', kind)
    assert main(['restore', 'photos', *ENLARGE]) == 0
    assert cv2.imread('out/a.png').shape == (16, 18, 3)


def test_further_pages_are_told(workdir, capsys):
    pages = [Image.fromarray(draw(8, 9, number)) for number in range(3)]
    pages[0].save('a.tif', save_all=True, append_images=pages[1:])
    pages[0].save('b.jpg', 'MPO', save_all=True, append_images=pages[1:])
    assert main(['restore', 'a.tif', 'b.jpg', *ENLARGE]) == 0
    said = capsys.readouterr().err
    assert 'a.tif: the first of its 3 pages is restored' in said and 'b.jpg: the first' not in said


def test_where_nothing_can_be_written_is_told_before_a_network_runs(workdir, monkeypatch, capsys):
    save('a.png')

    def full(dir):
        raise OSError(28, 'No space left on device', f'{dir}/tmp1')

    monkeypatch.setattr(tempfile, 'TemporaryFile', full)
    monkeypatch.setattr(restore, 'restore_file', None)
    assert main(['restore', 'a.png', *ENLARGE]) == 2
    assert '-o: nothing can be written to out (No space left on device); give another folder' in capsys.readouterr().err


def test_a_file_that_could_not_be_written_to_its_end_leaves_nothing(workdir, monkeypatch):
    save('a.png')

    def interrupted(*paths):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, 'replace', interrupted)
    for format in FORMATS:
        assert main(['restore', 'a.png', *ENLARGE, '--format', format]) == 130 and not os.listdir('out')


@pytest.mark.parametrize('masks, said', [
    ('nowhere', '--masks: nowhere is not a folder'),
    ('empty', '--masks: empty holds no images'),
    ('others', '--masks: image without mask: a.png; names must agree: the mask of photo.jpg would be photo.png'),
])
def test_masks_that_are_not_there_are_told_by_the_option_of_the_command(workdir, capsys, masks, said):
    for name in ('a.png', 'others/b.png'):
        save(name)
    os.mkdir('empty')
    assert main(['restore', 'a.png', '-m', 'telea', '-o', 'out', '--masks', masks]) == 2
    assert f'error: {said}' in capsys.readouterr().err
