"""What a checkpoint says of the network whose weights it holds: enough to build it without an option file."""
from basicsr.utils.registry import ARCH_REGISTRY

from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.signatures import defaults_of

# Beside 'params' and 'params_ema' in the file.
ENTRY = 'network_options'


def describe(opt, net_label):
    """The entry of a checkpoint.

    Args:
        opt (dict): Options of the run.
        net_label (str): As BasicSR calls the network, such as 'net_g'.

    Returns:
        dict: scale, and the options of the network with its type, in plain values; empty where opt does not have them.
    """
    options = opt.get(net_label.replace('net_', 'network_', 1))
    return {ENTRY: {'scale': opt.get('scale'), 'network': plain(options)}} if options else {}


def plain(value):
    """Dicts, lists and what they hold, of those kinds alone: files with others are not read."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    # NumPy's float64 is a float, and yet a file that holds one is not read.
    kind = next((kind for kind in (bool, int, float, str) if isinstance(value, kind)), str)
    return None if value is None else kind(value)


def described(checkpoint):
    """The scale and options of a checkpoint's network, or None where it does not say."""
    entry = checkpoint.get(ENTRY) if isinstance(checkpoint, dict) else None
    if not isinstance(entry, dict) or not isinstance(entry.get('network'), dict):
        return None
    return (entry.get('scale'), entry['network']) if isinstance(entry['network'].get('type'), str) else None


def differences(checkpoint, options):
    """How a checkpoint's network differs from that of an option file: 'dim: 48 (here 128), groups: 1 (here 4)'.

    Args:
        checkpoint: What a file holds.
        options (dict | None): network_g, say; those of another type are compared as well, for stages share their
            options.

    Returns:
        str: Empty where they are alike, or the checkpoint does not say.
    """
    found = described(checkpoint)
    if found is None or not options:
        return ''
    made, here = (with_defaults(plain(section)) for section in (found[1], options))
    keys = [key for key in made if key != 'type' and key in here and made[key] != here[key]]
    return ', '.join(f'{key}: {made[key]} (here {here[key]})' for key in keys)


def with_defaults(options):
    """The options of a network with the defaults of those that are left out; as they are where it is not known here."""
    try:
        arch = ARCH_REGISTRY.get(options['type'])
    except (InputError, KeyError):
        return options
    return {**plain(defaults_of(arch)), **options}
