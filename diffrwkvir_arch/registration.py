"""How the plugin's parts join BasicSR's registries: a folder's modules are imported, and their decorators register."""
import importlib
import os
import pkgutil
import sys

from diffrwkvir_arch.errors import InputError, first_line


def import_modules(package, suffix):
    """Imports every module of `package` whose name ends with `suffix`, in alphabetical order.

    Args:
        package (str): Dotted name of an imported package, usually the caller's `__name__`.
        suffix (str): Such as '_arch'; what BasicSR itself scans its own folders for.
    """
    folders = importlib.import_module(package).__path__
    for name in sorted(module.name for module in pkgutil.iter_modules(folders)):
        if name.endswith(suffix):
            importlib.import_module(f'{package}.{name}')


def import_users(names):
    """Imports a user's own packages or modules, which may lie in the current directory; their decorators register, too.

    Args:
        names (list of str): Of --import, each as in an import statement.
    """
    if names and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise InputError(f'--import {name}: {type(error).__name__}: {first_line(error)} (looked for in '
                             f"{os.getcwd()} and among Python's packages)") from error


def register_instead(registry):
    """Class decorator: registers a class under its own name even where BasicSR has one of that name, which it replaces.

    Args:
        registry (basicsr.utils.registry.Registry): The registry to write to.
    """

    def register(cls):
        registry._obj_map[cls.__name__] = cls
        return cls

    return register
