"""Calls of `basicsr prepare`, and the files that they read and write."""
import os
from pathlib import Path

import cv2
import pytest

from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.tools import prepare

SMALL = ['--sub', '--crop-size', 48, '--step', 24]


def save(path, image):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def read(path):
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None, path
    return image


def run(*arguments):
    return prepare.main([*map(str, arguments), *(() if '--workers' in arguments else ('--workers', '1'))])


def refused(*arguments):
    """The message of the InputError."""
    with pytest.raises(InputError) as caught:
        run(*arguments)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def names(folder):
    return sorted(name for name in os.listdir(folder) if not name.startswith('.'))
