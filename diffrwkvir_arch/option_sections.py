"""Sections of an option file that name a class: their options are the arguments that the class takes."""
import functools
import inspect
import re
import sys

from diffrwkvir_arch.errors import InputError, first_line, missing_options
from diffrwkvir_arch.signatures import check_names, defaults_of, takes_anything
from diffrwkvir_arch.values import check_flag, is_number, is_whole

PLUGIN = 'diffrwkvir_arch'
OWN_PACKAGES = ('basicsr', PLUGIN)
# What networks call GT side over LQ side.
SCALE_ARGUMENTS = ('scale', 'upscale')
# And the channels of the LQ, with those of the output where they do not say these by a name of their own.
CHANNEL_ARGUMENTS = ('in_channels', 'num_in_ch', 'in_chans', 'inp_channels')
OUT_CHANNEL_ARGUMENTS = ('out_channels', 'num_out_ch')


def registries():
    """BasicSR's registries by what they hold; imported late, because the toolbox mends BasicSR first."""
    from basicsr.utils import registry
    kinds = ('arch', 'model', 'loss', 'dataset', 'metric')
    return {kind: getattr(registry, f'{kind.upper()}_REGISTRY') for kind in kinds}


def look_up(kind, name, path):
    """What is registered under a name that the option `path` gives."""
    try:
        return registries()[kind].get(name)
    except InputError as error:
        raise InputError(f'{path}: {error}; --import PACKAGE adds those of your own') from None


def package_of(target):
    """The package that a class or function comes from."""
    return target.__module__.split('.')[0]


def is_own(cls):
    """Whether BasicSR or this plugin wrote the class, so that all its options are known."""
    return package_of(cls) in OWN_PACKAGES


@functools.lru_cache(maxsize=None)
def quoted_words(cls):
    """The words that the modules of a class and its bases mention in quotes, such as option names."""
    words = set()
    for base in inspect.getmro(cls) if inspect.isclass(cls) else [cls]:
        if package_of(base) in ('builtins', 'torch', 'abc', 'typing'):
            continue
        try:
            source = inspect.getsource(sys.modules[base.__module__])
        except (OSError, TypeError, KeyError):
            continue
        words.update(re.findall(r'''['"](\w+)['"]''', source))
    return words


def declared(cls, section):
    """What a class and its bases declare as `known_options`: a set, or a dict of sets by section."""
    names = set()
    for base in inspect.getmro(cls):
        known = vars(base).get('known_options', {})
        names.update(known.get(section, ()) if isinstance(known, dict) else known)
    return names


def require(section, path, keys):
    """Raises InputError where `section` is none, and for the keys that it lacks."""
    if not isinstance(section, dict):
        raise InputError(f"'{path}' must be a section with options, got {section!r}")
    missing = [f'{path}.{key}' if path else key for key in keys if section.get(key) is None]
    if missing:
        raise missing_options(missing)


def resumes(opt):
    """Whether training goes on from a state, which brings the networks along."""
    return bool(opt.get('auto_resume') or opt['path'].get('resume_state'))


def as_count(section, path, key, minimum=1):
    """Turns a whole number written as 5e3 into an int, and refuses anything else."""
    value = section[key]
    count = int(value) if isinstance(value, float) and value.is_integer() else value
    if not is_whole(count, minimum):
        name = f'{path}.{key}' if path else key
        raise InputError(f'{name} must be a whole number of at least {minimum}, got {value!r}')
    section[key] = count


def check_arguments(path, section, target, warn, strict, left_out=()):
    """Checks a section against the arguments of what it configures.

    Args:
        path (str): The section's name in the option file.
        section (dict): Its options; 'type' is not looked at.
        target (callable): Whose signature says what is known.
        warn (callable): Takes a message.
        strict (bool): Whether an unknown option is an error even where the target swallows anything.
        left_out (tuple of str): Arguments that the code fills in.
    """
    check_names(path, [key for key in section if key != 'type'], target, left_out, warn=None if strict else warn,
                lenient=not strict)
    for key, default in defaults_of(target).items():
        if key not in section:
            continue
        # Others' arguments need not mean what their defaults look like.
        if is_own(target) or package_of(target) == 'torch':
            check_value(f'{path}.{key}', section[key], default)
        # Elsewhere a default of 1 may stand for a number that need not be whole, such as EDSR's res_scale.
        if package_of(target) == PLUGIN and type(default) is int:
            as_count(section, path, key, minimum=min(default, 1))


def check_value(option, value, default):
    """Raises InputError for a value that is of another kind than the argument's default."""
    if isinstance(default, bool):
        check_flag(option, value)
    elif isinstance(default, float) and not is_number(value):
        raise InputError(f'{option} must be a number, got {value!r}')


def check_network(opt, key, own_model, warn):
    """Checks a network section against the constructor it is handed to."""
    section = opt[key]
    require(section, key, ['type'])
    arch = look_up('arch', section['type'], f'{key}.type')
    # A third party's model may change the section before it builds the network.
    check_arguments(key, section, arch, warn, strict=own_model and not takes_anything(arch))
    name, value = scale_argument(section, arch)
    scale = opt.get('scale')
    if name and isinstance(scale, int) and value != scale and own_model and key == 'network_g':
        raise InputError(f'{key}.{name}: {value} differs from scale: {scale}; dataset and network share one scale')
    if package_of(arch) == PLUGIN:
        refuse_unbuildable(key, section, arch)


def scale_argument(section, arch):
    """What a network calls GT side over LQ side, and its value; None and None where it does not say.

    Of our own networks the default counts. BasicSR's SwinIR has one that it ignores unless it enlarges.
    """
    options = {**(defaults_of(arch) if package_of(arch) == PLUGIN else {}), **section}
    return next(((name, options[name]) for name in SCALE_ARGUMENTS if isinstance(options.get(name), int)), (None, None))


def refuse_unbuildable(path, section, cls):
    """Raises InputError where the constructor of a network or loss refuses its options; it is built without memory."""
    import torch
    try:
        with torch.device('meta'):
            cls(**{name: value for name, value in section.items() if name != 'type'})
    except (ValueError, TypeError, ArithmeticError) as error:
        raise InputError(f'{path}: {section["type"]}: {first_line(error)}') from None
    except (RuntimeError, NotImplementedError):
        pass    # It looks at numbers, which tensors without memory do not have.


def check_metric(path, section, warn):
    """Checks one metric, and says which way is better where that is known and BasicSR would take what is higher.

    BasicSR's own swallow unknown options, only because they are handed 'better' too.
    """
    from diffrwkvir_arch.metrics.tables import direction
    require(section, path, ['type'])
    metric = look_up('metric', section['type'], f'{path}.type')
    section.setdefault('better', direction(section['type']) or 'higher')
    if section['better'] not in ('higher', 'lower'):
        raise InputError(f"{path}.better must be higher or lower, got {section['better']!r}")
    options = {key: value for key, value in section.items() if key != 'better'}
    check_arguments(path, options, metric, warn, strict=is_own(metric) or not takes_anything(metric),
                    left_out=('img', 'img2', 'mask'))
    if 'crop_border' in section and is_own(metric):
        as_count(section, path, 'crop_border', minimum=0)
    if section.get('input_order', 'HWC') not in ('HWC', 'CHW') and is_own(metric):
        raise InputError(f"{path}.input_order must be HWC or CHW, got {section['input_order']!r}")
    # What a metric wants to refuse before a training that would only meet it at its first validation.
    if hasattr(metric, 'check_options'):
        metric.check_options(path, section)
