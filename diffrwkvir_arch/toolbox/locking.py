"""One training at a time writes to a folder of experiments."""
import errno
import os
import socket

import basicsr.train

from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.toolbox.distributed import agree
from diffrwkvir_arch.toolbox.patching import swap

try:
    import fcntl
except ImportError:
    # Windows.
    fcntl = None

TAKEN = errno.EACCES, errno.EAGAIN


class FolderLock:
    """A lock on the name of a folder, held by this process until it is released or the process ends, however it does.

    lockf rather than flock: data workers do not inherit it, so that none of them holds it for a parent that was killed.
    """

    def __init__(self):
        self.file = None

    def take(self, folder):
        """Locks a folder that need not exist, in place of what was locked before.

        Returns:
            str | None: Who holds it where it is taken; None where it is free now.
        """
        self.release()
        if fcntl is None:
            return None
        path = os.path.join(os.path.dirname(folder), f'.{os.path.basename(folder)}.lock')
        os.makedirs(os.path.dirname(path), exist_ok=True)
        while True:
            file = open(path, 'a+', encoding='utf-8')
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                with file:
                    file.seek(0)
                    # Other errors: a file system without locks.
                    return (file.read() or 'another process') if error.errno in TAKEN else None
            if is_at(file, path):
                break
            file.close()    # Its last holder has removed it.
        file.truncate(0)
        file.write(f'process {os.getpid()} on {socket.gethostname()}')
        file.flush()
        self.file = file
        return None

    def release(self):
        """Unlocks what is locked."""
        if self.file is not None:
            # Removed while it is locked, so that nobody locks it in between.
            if is_at(self.file, self.file.name):
                os.remove(self.file.name)
            self.file.close()
            self.file = None


def is_at(file, path):
    """Whether an open file is the one that the path leads to."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


held = FolderLock()


def hold_experiment(opt):
    """Takes the experiment of a training for this job, or raises InputError where another job trains in it."""
    folder = opt['path']['experiments_root']
    holder = agree(held.take(folder) if opt['rank'] == 0 else None)
    if holder:
        raise InputError(f'{folder} belongs to a training that still runs ({holder}); stop that one first, or give '
                         'this one a name of its own, --force_yml name=...')


def mend_two_runs_of_one_name():
    """Fault: utils/misc.py:33, a second training of a name renames the folder that the first one writes to, which goes
    on into the second's; with --auto_resume both write the same checkpoints.
    Mend: hold_experiment, called before anything is written; here what it took is released.
    """

    def train_pipeline(root_path):
        try:
            train_pipeline.upstream(root_path)
        finally:
            held.release()

    swap(basicsr.train, 'train_pipeline', train_pipeline)
