"""Folders that appear when they are complete: built beside, resumed after an interrupt, renamed at the end.

OUT/.prepare/NAME.KEY is where OUT/NAME grows; KEY is for its settings. A journal in it says which sources are done. The
finished folder keeps a record of its settings, by which a later run knows whether it is what it would make.
"""
import contextlib
import functools
import json
import os
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from diffrwkvir_arch.errors import InputError

from ..comparison.journal import Journal, key_of
from .pieces import piece_names, write_pieces
from .workers import run_jobs

WORKSHOP, JOURNAL, RECORD = '.prepare', '.journal.jsonl', '.prepare.json'


@dataclass
class Target:
    """A folder or LMDB to be made. path: where it appears; settings: what it depends on, as JSON takes it."""
    path: Path
    settings: dict

    @property
    def unfinished(self):
        return self.path.parent / WORKSHOP / f'{self.path.name}.{key_of(self.settings)}'

    def is_there(self, sources, force):
        """Whether the target exists as it would be made.

        Args:
            sources (str): digest_of the sources.
            force (bool): Whether whatever is there will be replaced.

        Raises:
            InputError: There is another one, or what `force` would delete is no folder of files alone.
        """
        if not os.path.lexists(self.path):
            return False
        if self.path.is_symlink() or not self.path.is_dir() or any(entry.is_dir() for entry in os.scandir(self.path)):
            raise InputError(f'{shown(self.path)} is a link, a file or a folder with folders in it, which is never '
                             'replaced; remove it or give another -o')
        if force or not os.listdir(self.path):
            return False
        try:
            record = json.loads((self.path / RECORD).read_text(encoding='utf-8'))
        except (OSError, ValueError):
            record = None
        wanted = {**self.settings, 'sources': sources}
        if record == wanted:
            return True
        if record is None:
            raise InputError(f'{shown(self.path)} exists and was not made by basicsr prepare; --force replaces it')
        found = [f'{key} {record.get(key)}, now {value}' for key, value in wanted.items()
                 if key != 'sources' and record.get(key) != value]
        raise InputError(f'{shown(self.path)} exists and was made from other images or settings '
                         f'({", ".join(found) or "the images have changed"}); --force replaces it')

    def publish(self, sources):
        """Moves the folder, now finished, to its path, in the place of what was there."""
        (self.unfinished / RECORD).write_text(json.dumps({**self.settings, 'sources': sources}), encoding='utf-8')
        if self.path.exists():
            replaced = self.unfinished.with_name(f'{self.path.name}.replaced')
            # An interrupt may have left half of an earlier one.
            shutil.rmtree(replaced, ignore_errors=True)
            os.replace(self.path, replaced)
        os.replace(self.unfinished, self.path)
        (self.path / JOURNAL).unlink(missing_ok=True)
        self.forget_unfinished()

    def forget_unfinished(self):
        """Deletes what this and other settings have left in the workshop."""
        workshop = self.path.parent / WORKSHOP
        # KEY and 'replaced' hold no dot: NAME.lmdb.KEY is not NAME's.
        for leftover in workshop.glob('*'):
            if leftover.name.rpartition('.')[0] == self.path.name:
                shutil.rmtree(leftover)
        # Others may still grow in it.
        with contextlib.suppress(OSError):
            workshop.rmdir()


def shown(path):
    """A path as the user would write it here."""
    try:
        return os.path.relpath(path)
    except ValueError:    # on another drive of Windows
        return str(path)


def open_folder(folder):
    """Makes a folder for results; InputError where nothing can be written there, before hours are spent."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f'-o: nothing can be written to {folder} ({error.strerror}); give another folder') from None


def make_folders(targets, sources, digest, recipe, workers):
    """Makes folders of PNGs.

    Args:
        targets (list of Target): With 'scale' among their settings.
        sources (list of Source)
        digest (str): digest_of them.
        recipe (Recipe)
        workers (int): Processes.

    Returns:
        Counter: How many sources each remark is true of.

    Raises:
        InputError: Sources that cannot be used; all others are done then, and the next run goes on from there.
    """
    journals = {}
    for target in targets:
        target.unfinished.mkdir(parents=True, exist_ok=True)
        journals[str(target.unfinished)] = Journal(target.unfinished / JOURNAL)
    jobs, keys = [], {}
    for source in sources:
        open_targets = [(str(target.unfinished), target.settings['scale']) for target in targets
                        if not journals[str(target.unfinished)].get(source.key)]
        if open_targets:
            jobs.append((str(source.path), source.stem, open_targets))
            keys[source.stem] = source.key
    failures = []
    bar = tqdm(total=len(sources), initial=len(sources) - len(jobs), desc='images', unit='image')
    with bar, contextlib.closing(run_jobs(functools.partial(write_pieces, recipe=recipe), jobs, workers)) as done:
        for (_, stem, written), result in done:
            bar.update()
            if 'failure' in result:
                failures.append(result['failure'])
                continue
            for unfinished, _ in written:
                journals[unfinished].put(keys[stem], result)
    if failures:
        failures.sort()
        more = f' and {len(failures) - 3} more' if len(failures) > 3 else ''
        raise InputError(f'{len(failures)} of {len(sources)} images cannot be used: {"; ".join(failures[:3])}{more}. '
                         'Repair or remove them; the same command then continues')
    for target in targets:
        results = {source.stem: journals[str(target.unfinished)].get(source.key) for source in sources}
        sweep(target.unfinished, results, recipe)
        target.publish(digest)
    return Counter(remark for result in results.values() for remark in result['remarks'])


def sweep(unfinished, results, recipe):
    """Deletes what an interrupted run left of images that have changed or gone since, and halves of files."""
    expected = {name for stem, result in results.items() for name in piece_names(stem, result['pieces'], recipe.crop)}
    for entry in os.scandir(unfinished):
        if entry.name not in expected and entry.name != JOURNAL:
            os.unlink(entry.path)
