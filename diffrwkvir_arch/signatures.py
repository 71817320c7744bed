"""Which arguments a class or function takes, and whether the options meant for it are among them."""
import functools
import inspect

from diffrwkvir_arch.errors import missing_options, unknown_option


@functools.lru_cache(maxsize=None)
def parameters_of(target):
    """Name -> inspect.Parameter; of what lives as long as the process, for it is kept."""
    return inspect.signature(target).parameters


def takes_anything(target):
    """Whether a class or function takes arguments of any name."""
    return any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters_of(target).values())


def defaults_of(target):
    """Name -> default of the arguments that have one."""
    return {name: parameter.default for name, parameter in parameters_of(target).items()
            if parameter.default is not parameter.empty}


def required_arguments(function):
    """The names of arguments without a default."""
    return [name for name, parameter in inspect.signature(function).parameters.items()
            if parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)]


def check_names(path, options, target, given=(), warn=None, lenient=False):
    """Raises InputError for an option that is no argument of what it configures, and for those that are missing.

    Args:
        path (str): What holds the options, in the message.
        options (iterable of str): Their names, without 'type'.
        target (callable): Whose signature says what is known.
        given (iterable of str): Arguments that it gets beside its options.
        warn (callable | None): Takes the message about an unknown option, which is no error then, nor a missing one.
        lenient (bool): Whether what the target swallows is known.
    """
    known = [name for name, parameter in parameters_of(target).items() if name not in given
             and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)]
    for key in options:
        if key not in known and not (lenient and takes_anything(target)):
            error = unknown_option(f'{path}.{key}', known, f'; {path} takes {", ".join(known) or "no options"}')
            if warn is None:
                raise error
            warn(str(error))
    missing = [f'{path}.{name}' for name in required_arguments(target) if name not in (*given, *options)]
    if missing and warn is None:
        raise missing_options(missing)
