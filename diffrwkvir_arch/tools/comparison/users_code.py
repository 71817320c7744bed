"""What of a user's own code a result may depend on: where any of it has changed, the result is found out anew."""
import sys
import sysconfig
from pathlib import Path

from diffrwkvir_arch.archs.feed_forward import FEED_FORWARDS
from diffrwkvir_arch.archs.mixers import MIXERS
from diffrwkvir_arch.archs.token_shift import SHIFTS
from diffrwkvir_arch.option_sections import OWN_PACKAGES, is_own, package_of

from .image_sets import digest


def code_of(*targets):
    """The digest of a user's code where one of these classes or functions is part of it; None where all are ours.

    That code is the package of each of them, and whatever else is imported by now and not installed: helpers may lie
    anywhere, and what calls what cannot be known.
    """
    users = [target for target in targets if not is_own(target)]
    files = {file for target in users for file in sources_of(target)}
    return digest(*(file.read_bytes() for file in sorted(files | loaded_sources()))) if users else None


def parts_of(recipe):
    """The class of a network, and the parts that its options name."""
    parts = {'mixer': MIXERS, 'ffn': FEED_FORWARDS, 'shift': SHIFTS}
    named = [part for option, known in parts.items() for name, part in known.items()
             if name == recipe.options.get(option)]
    return [recipe.arch, *named]


def sources_of(target):
    """The Python files of the package that a class or function belongs to; none of what has no files."""
    package = sys.modules[package_of(target)]
    if getattr(package, '__path__', None):
        return [path.resolve() for folder in package.__path__ for path in Path(folder).rglob('*.py')]
    return [Path(package.__file__).resolve()] if getattr(package, '__file__', None) else []


def loaded_sources():
    """The Python files of all imported modules that are neither installed nor ours."""
    files = {Path(file).resolve() for name, module in list(sys.modules.items())
             if name.split('.')[0] not in (*OWN_PACKAGES, 'state_evolution')
             and (file := getattr(module, '__file__', None)) and file.endswith('.py')}
    python = Path(sysconfig.get_path('stdlib')).resolve()
    return {file for file in files
            if not {'site-packages', 'dist-packages'} & set(file.parts) and python not in file.parents
            and file.is_file()}
