"""Looking a name up in BasicSR's registries, and building what was found."""
import inspect

import basicsr.archs
from basicsr.utils.registry import ARCH_REGISTRY, Registry

from diffrwkvir_arch.errors import InputError, did_you_mean
from diffrwkvir_arch.toolbox.patching import swap


def mend():
    """Applies the mends of this file."""
    mend_lookup()
    mend_registering_twice()
    mend_building_networks()


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


def mend_building_networks():
    """Fault: archs/__init__.py:22, an option that a network does not take, or lacks, ends in a traceback. Option files
    are checked before; but a third party's model may still change the options, and is let go on.
    Mend: one line that says what the network takes.
    """

    def build_network(opt):
        options = dict(opt)
        arch = ARCH_REGISTRY.get(options.pop('type'))
        known = inspect.signature(arch)
        try:
            known.bind(**options)
        except TypeError as error:
            unknown = next((key for key in options if f"'{key}'" in str(error)), '')
            raise InputError(f'network {opt["type"]}: {error}{did_you_mean(unknown, known.parameters)}; it takes '
                             f'{", ".join(known.parameters) or "no options"}') from None
        return build_network.upstream(opt)

    swap(basicsr.archs, 'build_network', build_network)


def _identity(obj):
    return obj.__module__, obj.__qualname__
