"""Lets Python 3.13 and newer build BasicSR 1.4.2: PYTHONPATH="$PWD/python313" pip install --no-build-isolation basicsr

BasicSR's setup.py reads its version by exec() in a function and looks for it in locals(), which since Python 3.13
(PEP 667) no longer has what exec() has made. Python imports a module of this name as it starts.
"""
import builtins
import sys

plain_exec = builtins.exec


def exec_in_the_callers_names(code, *namespaces):
    """exec(), which leaves in the calling function's locals() what the code makes, as before Python 3.13."""
    if not namespaces:
        caller = sys._getframe(1)
        namespaces = caller.f_globals, caller.f_locals
    return plain_exec(code, *namespaces)


builtins.exec = exec_in_the_callers_names
