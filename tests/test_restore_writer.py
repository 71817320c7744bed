"""Results are written while the next image is restored, and none is lost."""
import threading
from pathlib import Path

import pytest
import torch

from diffrwkvir_arch.cli import main
from diffrwkvir_arch.tools import restore
from diffrwkvir_arch.tools.restoration import writer
from diffrwkvir_arch.tools.restoration.writer import Writer

CPU = torch.device('cpu')


@pytest.fixture
def gate():
    """An event that a written result waits for; opened in the end, whatever happens."""
    event = threading.Event()
    yield event
    event.set()


def test_nobody_waits_for_a_result_to_be_written_but_the_end(gate):
    written = []
    with Writer(CPU) as results:
        results.add(1, lambda: gate.wait(60) and written.append('first'))
        results.add(1, lambda: written.append('second'))
        assert not written
        gate.set()
    assert written == ['first', 'second']


@pytest.mark.parametrize('sizes, waits', [((1, 1, 1), True), ((writer.WAITING + 1, ), True), ((1, 1), False)])
def test_no_more_results_are_held_than_memory_has_room_for(gate, sizes, waits):
    """A thread of the CPU leaves two waiting; a huge result waits for itself."""
    with Writer(CPU) as results:
        if waits:
            threading.Timer(0.2, gate.set).start()
        for size in sizes:
            results.add(size, lambda: gate.wait(60))
        assert gate.is_set() is waits
        gate.set()


def test_an_error_of_writing_ends_the_run_at_the_next_result_or_at_the_end(gate):
    def fail():
        raise OSError(28, 'No space left on device', 'out/a.png')

    with pytest.raises(OSError, match='No space left'), Writer(CPU) as results:
        results.add(1, fail)
    with pytest.raises(OSError, match='No space left'), Writer(CPU) as results:
        for _ in range(100):
            results.add(1, fail)
        pytest.fail('nobody saw the error')


def test_what_is_restored_when_ctrl_c_comes_is_written(mixed_photos, monkeypatch, capsys):
    seen, restore_file = [], restore.restore_file

    def interrupted(path, *args):
        if seen:
            raise KeyboardInterrupt
        seen.append(path)
        return restore_file(path, *args)

    monkeypatch.setattr(restore, 'restore_file', interrupted)
    command = ['restore', 'my photos', '-m', 'bicubic', '--scale', '2', '-o', 'out']
    assert main(command) == 130
    assert [path.stem for path in Path('out').iterdir()] == [seen[0].stem]
    monkeypatch.setattr(restore, 'restore_file', restore_file)
    assert main(command) == 0
    assert '1 was there already' in capsys.readouterr().out
