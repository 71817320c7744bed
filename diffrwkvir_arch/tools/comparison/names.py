"""How arguments of the command name things: NAME=WHAT and FIRST:SECOND."""
import functools
import re
from pathlib import Path

from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.toolbox.options import find_option_file

OPTION_SUFFIXES = ('.yml', '.yaml')

# Labels are also names of files and folders.
UNFIT = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
# A colon after a single letter and before a slash belongs to a Windows drive.
PAIR = re.compile(r'((?:[A-Za-z]:[\\/])?[^:]*)(?::(.*))?')


def split_label(text, option):
    """'NAME=WHAT' -> (NAME, WHAT); (None, text) where there is no name or the text is itself a path.

    Args:
        text (str): One value of an option.
        option (str): The option, for the error message.

    Raises:
        InputError: The name is empty or cannot be a file's.
    """
    label, equals, what = text.partition('=')
    if not equals or Path(split_pair(text)[0]).exists():
        return None, text
    if not label or not what or UNFIT.search(label):
        raise InputError(f"{option} {text}: write NAME=WHAT, with a NAME that a file could have")
    return label, what


def split_pair(text):
    """'FIRST:SECOND' -> (FIRST, SECOND); (text, None) where there is one or the text is itself a path."""
    if Path(text).exists():
        return text, None
    return PAIR.fullmatch(text).groups()


def as_file_name(text):
    """The text with what file systems refuse replaced."""
    return UNFIT.sub('_', text)


def refuse_names(names, option, pictures=()):
    """Raises InputError where two methods, or two sets, have one name, or one that is no file's or a picture's.

    Args:
        pictures (iterable of str): Names of what is written beside the sets' own pictures.
    """
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{option}: two are called '{name}'; name one of them: NAME=...")
        if name in ('', '.', '..') or name in pictures:
            reason = f'{name}.png is another picture' if name in pictures else "it cannot be a file's"
            raise InputError(f"{option}: one is called '{name}', and {reason}; give it another name")


# (path, option) -> path of an option file that exists; one that is shipped is told once.
own_or_shipped = functools.cache(find_option_file)
