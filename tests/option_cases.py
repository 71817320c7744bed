"""Option dicts with one option changed, and what the check says of them."""
import copy

from diffrwkvir_arch.option_file import check_options


def put(opt, path, value):
    """Sets an option by its dotted path."""
    *sections, key = path.split('.')
    for section in sections:
        opt = opt.setdefault(section, {})
    opt[key] = value


def checked(opt, is_train=True):
    """The option dict after the check, and the warnings."""
    opt, warnings = copy.deepcopy(opt), []
    opt.update(is_train=is_train, auto_resume=False)
    check_options(opt, warnings.append)
    return opt, warnings
