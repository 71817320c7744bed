"""What values an option may have; what cannot work is an InputError that names the option and says what came."""
from diffrwkvir_arch.errors import InputError


def is_number(value):
    """Whether an option is a number; YAML's booleans are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def check_flag(option, value):
    """Raises InputError for a value that is neither true nor false, nor left open."""
    if value is not None and not isinstance(value, bool):
        raise InputError(f'{option} must be true or false, got {value!r}')
