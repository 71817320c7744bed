"""What values an option may have; what cannot work is an InputError that names the option and says what came."""
from diffrwkvir_arch.errors import InputError


def is_number(value):
    """Whether an option is a number; YAML's booleans are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_whole(value, least):
    """Whether an option is a whole number of at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def check_flag(option, value):
    """Raises InputError for a value that is neither true nor false, nor left open."""
    if value is not None and not isinstance(value, bool):
        raise InputError(f'{option} must be true or false, got {value!r}')


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
    if not is_whole(seed, 0):
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
