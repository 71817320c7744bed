"""The processes of one job: how many a launcher says there are, and which of them speaks to the user.

As the environment has it, so that it holds before torch is imported.
"""
import contextlib
import datetime
import os
import time

from diffrwkvir_arch.errors import InputError


def is_first_rank():
    """Whether this process is the one that speaks for all that torchrun or srun started.

    A process alone does, whatever rank a cluster has set for it.
    """
    if count_of_torchrun() > 1:
        return os.environ['RANK'] == '0'
    return count_of_srun() == 1 or os.environ.get('SLURM_PROCID', '0') == '0'


def count_of_torchrun():
    """How many processes torchrun, or what sets its variables, has started."""
    return int(os.environ.get('WORLD_SIZE') or 1) if os.environ.get('RANK') else 1


def count_of_srun():
    """How many tasks of Slurm's work side by side.

    SLURM_NTASKS says so of batch scripts and interactive shells too, which run once.
    """
    return 1 if os.environ.get('SLURM_PTY_PORT') else int(os.environ.get('SLURM_STEP_NUM_TASKS') or 1)


def refuse_without_launcher():
    """Raises InputError in one of several processes that would all do the same work, and write the same files."""
    if count_of_torchrun() > 1:
        raise InputError(f'{count_of_torchrun()} processes were started (WORLD_SIZE), and each would do all the work '
                         'alone: add --launcher pytorch, or start one without torchrun')
    if count_of_srun() > 1:
        raise InputError(f'srun has started {count_of_srun()} tasks (SLURM_STEP_NUM_TASKS), and each would do all the '
                         'work alone: add --launcher slurm, or start one, srun --ntasks 1')


def refuse_several(verb):
    """Raises InputError where torchrun has started several processes of a verb that has use for one.

    Torchrun itself: on clusters whose machines have its variables set, the verb may be started once.
    """
    if count_of_torchrun() > 1 and 'TORCHELASTIC_RUN_ID' in os.environ:
        raise InputError(f'basicsr {verb} works in one process, and {count_of_torchrun()} were started (WORLD_SIZE): '
                         'start it without torchrun')


def count_errors(told=0):
    """How many processes of this job have told an error, `told` more than before.

    Returns:
        int | None: None where torchrun keeps nothing for its processes, or has ended.
    """
    if os.environ.get('TORCHELASTIC_USE_AGENT_STORE') != 'True':
        return None
    from torch.distributed import TCPStore
    with contextlib.suppress(RuntimeError):
        store = TCPStore(os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT']), is_master=False,
                         timeout=datetime.timedelta(seconds=5))
        return store.add(f'basicsr/errors/{os.environ["TORCHELASTIC_RESTART_COUNT"]}', told)


def is_first_to_tell():
    """Whether this process is to tell an error, which others may have met as well: one of them does."""
    errors = count_errors(told=1)
    if errors is None and not is_first_rank():
        # Where rank 0 fails too, the launcher ends this process before it repeats what rank 0 has said; on a busy
        # machine that takes its time.
        time.sleep(10)
    return errors in (None, 1)
