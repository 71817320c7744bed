"""What options of datasets are checked for: their names, numbers, ranges to draw from, seeds."""
import inspect

from diffrwkvir_arch.errors import InputError, did_you_mean


def check_keys(option, section, target):
    """Raises InputError for a key of a section that is no argument of what it configures, or is missing.

    Args:
        option (str): The section's name in error messages; the first argument of target.
        section (dict): As written, without what chooses the target.
        target (type): Whose signature says what is known.
    """
    known = dict(list(inspect.signature(target).parameters.items())[1:])
    for key in section:
        if key not in known:
            raise InputError(f"unknown option '{option}.{key}'{did_you_mean(key, known)}")
    for key, parameter in known.items():
        if parameter.default is parameter.empty and key not in section:
            raise InputError(f'missing option: {option}.{key}')


def as_range(option, value, least, most, whole=False):
    """The least and the greatest value that an option allows: `10` is 10 to 10, `[5, 40]` is 5 to 40.

    Args:
        least, most (float): What the option can be, both included.
        whole (bool): Whether whole numbers alone make sense.

    Returns:
        tuple: Two floats, or ints where whole.
    """
    ends = value if isinstance(value, (list, tuple)) else [value, value]
    if not (len(ends) == 2 and all(is_number(end) and least <= end <= most for end in ends) and ends[0] <= ends[1]
            and not (whole and any(end != int(end) for end in ends))):
        kind = 'whole number' if whole else 'number'
        raise InputError(f'{option} must be a {kind} of {least} to {most}, or a pair [least, greatest] of them, got '
                         f'{value!r}')
    return tuple(int(end) if whole else float(end) for end in ends)


def check_seed(option, seed):
    """Raises InputError for what is no seed."""
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f'{option} must be a whole number of at least 0, got {seed!r}')


def is_number(value):
    """Whether an option is a number; YAML's booleans are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
