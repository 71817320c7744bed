"""What options of datasets are checked for: their names, numbers, ranges to draw from, seeds."""
import inspect

from diffrwkvir_arch.errors import InputError, did_you_mean
from diffrwkvir_arch.values import is_number


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


def as_list(option, value):
    """The value, which must be a list of something."""
    if not isinstance(value, (list, tuple)) or not value:
        raise InputError(f'{option} must be a list, got {value!r}')
    return value


def as_probability(option, value):
    """The value, which must be a number of 0 to 1."""
    if not is_number(value) or not 0 <= value <= 1:
        raise InputError(f'{option} must be a number of 0 to 1, got {value!r}')
    return value


def as_weights(option, value, count):
    """The value, which must be `count` numbers of at least 0, not all 0."""
    value = as_list(option, value)
    if len(value) != count or not all(is_number(one) and 0 <= one < float('inf') for one in value) or not sum(value):
        raise InputError(f'{option} must be {count} numbers of at least 0, not all 0, got {value!r}')
    return value


def as_range_around_one(option, value, least, most):
    """as_range whose ends lie on both sides of 1, for what is drawn on either side of it."""
    low, high = as_range(option, value, least, most)
    if not low <= 1 <= high:
        raise InputError(f'{option} must reach from at most 1 to at least 1, got {value!r}')
    return low, high
