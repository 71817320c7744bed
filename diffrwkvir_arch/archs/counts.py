"""Options of a network that count something."""
from numbers import Integral


def check_counts(**options):
    """Raises ValueError where an option is no whole number of at least 1: Python's own error would not name it."""
    for name, value in options.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
            raise ValueError(f'{name} must be a whole number of at least 1, got {value!r}')
