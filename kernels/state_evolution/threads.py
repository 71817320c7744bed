"""Runs a function on several threads: on PyTorch's own OpenMP team where there is one, else on a pool of Python's.

After each of its operators PyTorch's threads wait for the next without going to sleep. Other threads would have to
share their cores with them, and would be as slow as one.
"""
import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache


def on_threads(function, threads):
    """Calls function() once on each of so many threads, this one among them, and waits. It must not raise.

    The threads hold Python's lock while they run Python, compiled code gives it back.
    """
    team = openmp(os.getpid())
    if team is not None:
        team(CALLBACK(lambda _: function()), None, threads, 0)
        return
    helpers = [pool(os.getpid(), threads - 1).submit(function) for _ in range(threads - 1)]
    function()
    for helper in helpers:
        helper.result()


CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
STARTED_BY = os.getpid()


@cache
def openmp(process):
    """GOMP_parallel(function, argument, threads, flags) of the OpenMP that PyTorch has loaded, or None.

    A forked process, such as a data loader's worker, must not use it: it inherits the team but not its threads.
    """
    if process != STARTED_BY:
        return None
    try:
        team = ctypes.CDLL('libgomp.so.1', mode=os.RTLD_NOLOAD | os.RTLD_NOW).GOMP_parallel
    except (OSError, AttributeError):    # not loaded, or not on Linux
        return None
    team.argtypes = [CALLBACK, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    team.restype = None
    return team


@cache
def pool(process, threads):
    """Of this process, for the same reason."""
    return ThreadPoolExecutor(threads, thread_name_prefix='state_evolution')
