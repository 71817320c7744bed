"""Looking a name up in BasicSR's registries, and building what was found."""
import basicsr.archs
import basicsr.losses
from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY, Registry

from diffrwkvir_arch.errors import InputError, did_you_mean
from diffrwkvir_arch.signatures import check_names
from diffrwkvir_arch.toolbox.patching import swap


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
        key = f'{name}_{suffix}' if isinstance(suffix, str) else name
        known = self._obj_map.get(key)
        if known is not None and _identity(known) == _identity(obj):
            self._obj_map[key] = obj
        else:
            _do_register.upstream(self, name, obj, suffix)

    swap(Registry, '_do_register', _do_register)


def mend_building():
    """Fault: archs/__init__.py:22, losses/__init__.py:24, an option that a network or loss does not take, or lacks,
    ends in a traceback. Option files are checked before; but a third party's model may still change the options, and is
    let go on.
    Mend: one line that says what the class takes.
    """

    def build_network(opt):
        refuse_uncallable(ARCH_REGISTRY, opt)
        return build_network.upstream(opt)

    def build_loss(opt):
        refuse_uncallable(LOSS_REGISTRY, opt)
        return build_loss.upstream(opt)

    swap(basicsr.archs, 'build_network', build_network)
    swap(basicsr.losses, 'build_loss', build_loss)


def refuse_uncallable(registry, opt, given=()):
    """Raises InputError where what is registered as opt['type'] cannot be called with the other options.

    Args:
        registry (Registry), opt (dict).
        given (iterable of str): Arguments that it gets beside its options.
    """
    options = dict(opt)
    name = options.pop('type')
    check_names(name, options, registry.get(name), given, lenient=True)


def _identity(obj):
    return obj.__module__, obj.__qualname__
