"""What of a user's own code a result may depend on: where any of it has changed, the result is found out anew."""
import ast
import importlib.util
import sys
import sysconfig
from pathlib import Path

from diffrwkvir_arch.archs.feed_forward import FEED_FORWARDS
from diffrwkvir_arch.archs.mixers import MIXERS
from diffrwkvir_arch.archs.token_shift import SHIFTS
from diffrwkvir_arch.option_sections import OWN_PACKAGES, is_own, package_of

from .image_sets import digest

OURS = *OWN_PACKAGES, 'state_evolution'
STDLIB = Path(sysconfig.get_path('stdlib')).resolve()


def code_of(*targets):
    """The digest of a user's code where one of these classes or functions is part of it; None where all are ours.

    That code is the package of each of them, and whatever else is imported by now and not installed: helpers may lie
    anywhere, and what calls what cannot be known. What any of it imports counts as well, for a function may import
    when it is called.
    """
    users = [target for target in targets if not is_own(target)]
    files = {file for target in users for file in sources_of(package_of(target))}
    return digest(*(file.read_bytes() for file in sorted(with_imported(files | loaded_sources())))) if users else None


def parts_of(recipe):
    """The class of a network, and the parts that its options name."""
    parts = {'mixer': MIXERS, 'ffn': FEED_FORWARDS, 'shift': SHIFTS}
    named = [part for option, known in parts.items() for name, part in known.items()
             if name == recipe.options.get(option)]
    return [recipe.arch, *named]


def with_imported(files):
    """These Python files and those that they import, and so on, as far as they are neither installed nor ours."""
    found, names, todo = set(), set(OURS), set(files)
    while todo:
        found |= todo
        new = set().union(*map(imported_names, todo)) - names
        names |= new
        todo = {file for name in new for file in sources_of(name, installed=False)} - found
    return found


def imported_names(file):
    """The packages and modules that a Python file imports from outside of its own package, in functions too."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):    # never imported
        return set()
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.split('.')[0])
    return names


def sources_of(name, installed=True):
    """The Python files of a package or module, imported or not; none of what has no files, or is `installed`."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):    # __main__ has none
        spec = None
    places = list(spec.submodule_search_locations or [spec.origin] * spec.has_location) if spec else []
    places = [Path(place).resolve() for place in places]
    return {file for place in places if installed or not is_installed(place)
            for file in (place.rglob('*.py') if place.is_dir() else [place]) if file.suffix == '.py'}


def loaded_sources():
    """The Python files of all imported modules that are neither installed nor ours."""
    files = {Path(file).resolve() for name, module in list(sys.modules.items())
             if name.split('.')[0] not in OURS and (file := getattr(module, '__file__', None)) and file.endswith('.py')}
    return {file for file in files if not is_installed(file) and file.is_file()}


def is_installed(path):
    return bool({'site-packages', 'dist-packages'} & set(path.parts)) or STDLIB in path.parents
