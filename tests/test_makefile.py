"""`make` says what it lacks before it downloads anything."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(not shutil.which('make'), reason='needs make')


def install(python, environment):
    """`make install` by an interpreter into an environment, as if no make had started the tests."""
    without_make = {name: value for name, value in os.environ.items() if name not in ('MAKEFLAGS', 'MAKELEVEL')}
    return subprocess.run(['make', 'install', f'PYTHON={python}'], cwd=ROOT, text=True, capture_output=True,
                          env={**without_make, 'VIRTUAL_ENV': str(environment)})


@pytest.mark.parametrize('made', [False, True], ids=['to be made', 'made'])
def test_an_environment_of_too_old_a_python_is_refused_before_anything_is_installed(tmp_path, made):
    old, environment = tmp_path / 'python3.9', tmp_path / 'a venv'
    pretends = 'import sys; sys.version_info = (3, 9, 18); exec(sys.argv[1])'
    old.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{pretends}" "$2"\n')
    old.chmod(0o755)
    if made:
        (environment / 'bin').mkdir(parents=True)
        old.rename(environment / 'bin' / 'python')
    done = install('false' if made else old, environment)
    assert done.returncode and 'is too old, Python 3.10 to 3.13 is needed' in done.stderr
    assert not done.stdout and environment.exists() == made


def test_an_environment_that_was_left_half_made_is_made_again(tmp_path):
    halfway, environment = tmp_path / 'python', tmp_path / 'a venv'
    # As Debian's without python3-venv: `python -m venv DIR` fails when DIR/bin/python is there.
    halfway.write_text('#!/bin/sh\ntest "$1" = -c && exit\necho make an environment\nmkdir -p "$3/bin"\n'
                       'cp "$0" "$3/bin/python"\nexit 1\n')
    halfway.chmod(0o755)
    for _ in range(2):
        assert 'make an environment' in install(halfway, environment).stdout
        assert not (environment / 'bin' / 'python').exists()
