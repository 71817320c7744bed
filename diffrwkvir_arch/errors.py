"""The one exception for what a user can put right: the command line prints its message alone and exits with 2."""
import contextlib
import difflib


class InputError(ValueError):
    """A file, folder or option that cannot be used; the message names it and says what would work."""


def first_line(error):
    """Of an exception's message, for a message of one line; the name of its type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def one_line(error):
    """The first line of an exception's message, after the name of its type where it is not meant for users."""
    if isinstance(error, InputError):
        return first_line(error)
    return f'{type(error).__name__}: {(str(error).strip().splitlines() or [""])[0]}'


@contextlib.contextmanager
def telling(what, but=lambda error: isinstance(error, InputError)):
    """Whatever is raised becomes an InputError of one line that begins with `what`, `but` for what that is true of."""
    try:
        yield
    except Exception as error:
        if but(error):
            raise
        raise InputError(f'{what}: {one_line(error)}') from error


def some(names, count=5):
    """Such as 'a, b, c and 4 more', for an error message: so many names at most."""
    return ', '.join(names[:count]) + (f' and {len(names) - count} more' if len(names) > count else '')


def counted(count, noun):
    """Such as '1 image' and '2 images'."""
    return f'{count} {noun}' + 's' * (count != 1)


def did_you_mean(name, known):
    """Ends an error message about an unknown name.

    Args:
        name: The name that was given.
        known (iterable of str): The names that exist.

    Returns:
        str: " (did you mean 'x'?)" with the nearest known name, or an empty string where none is near.
    """
    by_lower_case = {str(other).lower(): str(other) for other in sorted(known, key=str)}
    nearest = difflib.get_close_matches(str(name).lower(), by_lower_case, n=1, cutoff=0.6)
    return f" (did you mean '{by_lower_case[nearest[0]]}'?)" if nearest else ''


def unknown_option(path, known, remark=''):
    """The error for an option that nothing reads.

    Args:
        path (str): Such as 'train.ema_deacy'.
        known (iterable of str): The names it could have had.
        remark (str): More about where it would be read.
    """
    return InputError(f"unknown option '{path}'{did_you_mean(path.rpartition('.')[2], known)}{remark}")


def missing_options(names):
    """The error for options, such as 'train.total_iter', that a file lacks."""
    return InputError(f'missing option{"s" * (len(names) > 1)}: {", ".join(names)}')
