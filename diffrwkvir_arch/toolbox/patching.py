"""How a mend takes the place of what it mends."""
import sys


def swap(owner, name, replacement):
    """Puts `replacement` in the place of `owner.name`, and of every BasicSR module's copy imported by name.

    Args:
        owner (module | type): Where BasicSR defines it.
        name (str): The function, method or class to replace.
        replacement: Takes its place; its attribute `upstream` then holds what was there before.
    """
    original = getattr(owner, name)
    replacement.upstream = original
    setattr(owner, name, replacement)
    for module_name, module in list(sys.modules.items()):
        if module_name.split('.')[0] == 'basicsr' and getattr(module, name, None) is original:
            setattr(module, name, replacement)
