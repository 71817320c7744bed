"""Looking a name up in BasicSR's registries."""
from basicsr.utils.registry import Registry

from diffrwkvir_arch.errors import InputError, did_you_mean
from diffrwkvir_arch.toolbox.patching import swap


def mend():
    """Applies the mends of this file."""
    mend_lookup()
    mend_registering_twice()


def mend_lookup():
    """Fault: utils/registry.py:69-75, an unknown name ends in a KeyError that does not say which names exist, after
    printing 'Name X is not found, use name: X_basicsr!' whether or not that one exists.
    Mend: an InputError with the nearest name and all of them.
    """

    def get(self, name, suffix='basicsr'):
        for candidate in (name, f'{name}_{suffix}'):
            if candidate in self._obj_map:
                return self._obj_map[candidate]
        raise InputError(f"unknown {self._name} '{name}'{did_you_mean(name, self._obj_map)}; "
                         f"registered: {', '.join(sorted(self._obj_map))}")

    swap(Registry, 'get', get)


def mend_registering_twice():
    """Fault: utils/registry.py:37, a module that is imported twice (reloaded, or run as a script and imported too)
    fails with 'was already registered'.
    Mend: the same class, by module and name, may register again. Two different classes of one name still fail.
    """

    def _do_register(self, name, obj, suffix=None):
        known = self._obj_map.get(f'{name}_{suffix}' if isinstance(suffix, str) else name)
        if known is not None and _identity(known) == _identity(obj):
            self._obj_map[f'{name}_{suffix}' if isinstance(suffix, str) else name] = obj
        else:
            _do_register.upstream(self, name, obj, suffix)

    swap(Registry, '_do_register', _do_register)


def _identity(obj):
    return obj.__module__, obj.__qualname__
