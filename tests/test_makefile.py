"""`make` says what it lacks before it downloads anything."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(not shutil.which('make'), reason='needs make')
@pytest.mark.parametrize('made', [False, True], ids=['to be made', 'made'])
def test_an_environment_of_too_old_a_python_is_refused_before_anything_is_installed(tmp_path, made):
    old, environment = tmp_path / 'python3.9', tmp_path / 'a venv'
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 9, 18); exec(sys.argv[1])" '
                   '"$2"\n')
    old.chmod(0o755)
    if made:
        (environment / 'bin').mkdir(parents=True)
        old.rename(environment / 'bin' / 'python')
    done = subprocess.run(['make', 'install', f'PYTHON={"false" if made else old}'], cwd=ROOT, text=True,
                          capture_output=True, env={**os.environ, 'VIRTUAL_ENV': str(environment)})
    assert done.returncode and 'is too old, Python 3.10 to 3.13 is needed' in done.stderr
    assert not done.stdout and environment.exists() == made
