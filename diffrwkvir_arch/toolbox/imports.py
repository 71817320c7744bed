"""Modules that BasicSR 1.4.2 imports and today's libraries no longer have."""
import importlib
import sys
import types


def mend_imports():
    """Provides the removed modules; must run before `import basicsr`.

    Fault: data/degradations.py:8 imports `torchvision.transforms.functional_tensor`, removed in torchvision 0.17, so
    `import basicsr` ends in ModuleNotFoundError (BasicSR#533, #663). metrics/niqe.py:5 and data/data_util.py:280 import
    `scipy.ndimage.filters`, which SciPy announces to remove.
    Mend: a module of that name with the one function BasicSR takes from it, only where the real one is missing.
    """
    _provide('torchvision.transforms.functional_tensor', 'torchvision.transforms.functional', ['rgb_to_grayscale'])
    _provide('scipy.ndimage.filters', 'scipy.ndimage', ['convolve', 'gaussian_filter'])


def _provide(name, source, functions):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        source = importlib.import_module(source)
        module = types.ModuleType(name)
        for function in functions:
            setattr(module, function, getattr(source, function))
        sys.modules[name] = module
        parent, _, child = name.rpartition('.')
        setattr(sys.modules[parent], child, module)
