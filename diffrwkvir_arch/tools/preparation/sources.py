"""The images that datasets are made from: which files, and what their pieces will be called."""
import os
import re
from pathlib import Path
from typing import NamedTuple

from diffrwkvir_arch.data.image_file import EXTENSIONS
from diffrwkvir_arch.errors import InputError

from ..comparison.journal import key_of


class Source(NamedTuple):
    """An image file. stem: its name in the dataset; size, modified: tell whether it is still the same file."""
    path: Path
    stem: str
    size: int
    modified: int

    @property
    def key(self):
        return key_of(self.stem, self.size, self.modified)


def find_sources(folders, recursive):
    """The images of folders, in the order of their stems.

    Args:
        folders (list of str): Looked through without their subfolders.
        recursive (bool): With them; a file sub/a.png then has the stem sub_a.

    Returns:
        list of Source: Blanks in a stem become underscores, because a meta_info file ends a name at a blank.

    Raises:
        InputError: A folder does not exist or holds no images, or two images have one stem.
    """
    found = {}
    for folder in map(Path, folders):
        for path in images_of(folder.expanduser(), recursive):
            name = path.relative_to(folder.expanduser()).with_suffix('')
            stem = re.sub(r'\s', '_', '_'.join(name.parts))
            if stem in found:
                raise InputError(f"{found[stem].path} and {path} would both become '{stem}'; rename or remove one")
            try:
                status = path.stat()
            except OSError as error:
                raise InputError(f'{path}: {error.strerror}') from None
            found[stem] = Source(path, stem, status.st_size, status.st_mtime_ns)
    return [found[stem] for stem in sorted(found)]


def images_of(folder, recursive, extensions=EXTENSIONS):
    """The paths of a folder's images; hidden files and folders are left out. InputError where there are none."""
    if not folder.is_dir():
        raise InputError(f'{folder} is {"not a folder" if folder.exists() else "not there"}; give folders of GT images')
    paths = [Path(place, name) for place, _, names in visible(folder, recursive) for name in names
             if name.lower().endswith(extensions)]
    if not paths:
        deeper = '' if recursive else '; --recursive looks into its subfolders too'
        raise InputError(f'{folder} holds no images ({", ".join(extensions)}){deeper}')
    return paths


def visible(folder, recursive):
    """(path, names of subfolders, names of files) of a folder, and of those in it, sorted; without what is hidden."""
    visited = set()
    for place, subfolders, names in os.walk(folder, followlinks=True):
        if os.path.realpath(place) in visited:    # a link to a folder that holds it
            subfolders[:] = []
            continue
        visited.add(os.path.realpath(place))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith('.'))
        yield place, list(subfolders), sorted(name for name in names if not name.startswith('.'))
        if not recursive:
            return


def digest_of(sources):
    """A short text that changes with the names or sizes of the files."""
    return key_of(*([source.stem, source.size] for source in sources))
