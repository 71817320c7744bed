"""Images in LMDB, opened once a process."""
import os

import lmdb
from basicsr.utils import file_client
from basicsr.utils.file_client import BaseStorageBackend, FileClient

from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.toolbox.patching import swap

# (st_dev, st_ino) of data.mdb -> (process id, lmdb.Environment)
_opened = {}


def environment(path, **options):
    """The read-only environment at `path`, shared by all who read it in this process.

    Args:
        path (str): Folder NAME.lmdb with data.mdb in it.
        options: As lmdb.open.
    """
    try:
        status = os.stat(os.path.join(path, 'data.mdb'))
    except OSError:
        raise InputError(f'{path}: not an LMDB (no data.mdb in it)') from None
    process, opened = _opened.get((status.st_dev, status.st_ino), (None, None))
    if process == os.getpid():
        return opened
    if opened is not None:
        # Inherited from the parent by fork. LMDB must not be used across a fork, nor be opened beside it.
        opened.close()
    opened = lmdb.open(path, **options)
    _opened[status.st_dev, status.st_ino] = os.getpid(), opened
    return opened


class SharedLmdbBackend(BaseStorageBackend):
    """BasicSR's LmdbBackend with environments that are shared within a process.

    Args:
        db_paths (str | list[str]): LMDB folders.
        client_keys (str | list[str]): The name by which each is asked, such as 'lq' and 'gt'.
        readonly, lock, readahead, **kwargs: As lmdb.open; of the first to open a folder.
    """

    def __init__(self, db_paths, client_keys='default', readonly=True, lock=False, readahead=False, **kwargs):
        db_paths = [db_paths] if isinstance(db_paths, (str, os.PathLike)) else db_paths
        client_keys = [client_keys] if isinstance(client_keys, str) else client_keys
        if len(db_paths) != len(client_keys):
            raise ValueError(f'as many client_keys as db_paths are needed, got {len(client_keys)} and {len(db_paths)}')
        self.db_paths = dict(zip(client_keys, map(str, db_paths)))
        self.options = dict(readonly=readonly, lock=lock, readahead=readahead, **kwargs)
        for path in self.db_paths.values():
            environment(path, **self.options)

    def get(self, filepath, client_key):
        """The bytes stored under the key `filepath`."""
        path = self.db_paths[client_key]
        with environment(path, **self.options).begin(write=False) as transaction:
            value = transaction.get(str(filepath).encode())
        if value is None:
            raise InputError(f"{path}: has no image '{filepath}', though meta_info.txt lists it; make the LMDB anew")
        return value

    def get_text(self, filepath):
        raise NotImplementedError


def mend_backend():
    """Fault: utils/file_client.py:112 opens an LMDB for each dataset, which lmdb>=2 refuses within one process
    ('already open in this process'): the same file for training and validation, in two test sets, or inherited by a
    forked worker. utils/file_client.py:128, a key that is missing comes back as None and fails later without its name.
    Mend: SharedLmdbBackend.
    """
    swap(file_client, 'LmdbBackend', SharedLmdbBackend)
    FileClient._backends['lmdb'] = SharedLmdbBackend
