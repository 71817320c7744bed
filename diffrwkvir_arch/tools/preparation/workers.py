"""Runs one function on many jobs, in processes, so that Ctrl-C ends them in order."""
import multiprocessing
import signal
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice

import cv2
import torch

from diffrwkvir_arch.errors import InputError

# Jobs that are handed out ahead, for each worker.
AHEAD = 4

_task = _stop = None


def run_jobs(task, jobs, workers):
    """Yields (job, task(job)) as they are done; close it to cancel what has not begun.

    Args:
        task (callable): Goes to every process once; can be pickled.
        jobs (iterable): Can be pickled, as the results can.
        workers (int): Processes; with 1 the work is done in this one.
    """
    if workers == 1:
        for job in jobs:
            yield job, task(job)
        return
    # Here, for a forked process that ends the threads which its parent had, waits for them without end.
    cv2_threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    stop = multiprocessing.Event()
    pool, waiting, jobs = ProcessPoolExecutor(workers, initializer=start, initargs=(task, stop)), {}, iter(jobs)
    try:
        while True:
            waiting |= {pool.submit(work, job): job for job in islice(jobs, AHEAD * workers - len(waiting))}
            if not waiting:
                return
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                yield waiting.pop(future), future.result()
    except BrokenProcessPool:
        raise InputError('a worker process was ended from outside, as happens when memory runs out; the same command '
                         'with fewer --workers continues') from None
    finally:
        # The pool's own queue cannot be cancelled.
        stop.set()
        pool.shutdown(cancel_futures=True)
        cv2.setNumThreads(cv2_threads)


def start(task, stop):
    """Prepares a worker: Ctrl-C is for the parent; threads of its own would only compete with the other workers."""
    global _task, _stop
    _task, _stop = task, stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if multiprocessing.get_start_method() != 'fork':
        cv2.setNumThreads(1)
    torch.set_num_threads(1)


def work(job):
    """The task of this worker; None once nobody waits for it."""
    return None if _stop.is_set() else _task(job)
