"""What `diffrwkvir_arch.device` does about memory."""
import os
import platform
import subprocess
import sys

import pytest

FAULTS = '''
import resource, torch
from diffrwkvir_arch.device import keep_freed_memory
keep_freed_memory()
def faults():
    torch.ones(2 ** 24)    # 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(-(faults() - faults()))
'''


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='what is kept is up to other C libraries')
@pytest.mark.parametrize('variables, kept', [({}, True), ({'MALLOC_MMAP_THRESHOLD_': '131072'}, False)])
def test_memory_that_was_freed_is_used_again_unless_the_environment_says_otherwise(variables, kept):
    environment = {name: value for name, value in os.environ.items() if not name.startswith('MALLOC_')}
    process = subprocess.run([sys.executable, '-c', FAULTS], env={**environment, **variables}, capture_output=True,
                             text=True, check=True)
    pages = 2 ** 26 // os.sysconf('SC_PAGE_SIZE')
    assert (int(process.stdout) < pages / 8) is kept
