"""What commands free, they keep for what comes next."""
import os
import platform
import subprocess
import sys

import pytest

# Touches 40 MiB and frees them; counts the pages that the system has to bring for the last of many times. Small blocks
# may take the edges of what is freed, until nothing small is left to be placed.
FAULTS = """
import resource
from diffrwkvir_arch import cli

def faults(arguments):
    import torch
    for _ in range(50):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(10 * 2**20)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

cli.VERBS['profile'] = faults
cli.main(['profile'])
"""


def faults(**variables):
    environment = {name: value for name, value in os.environ.items() if not name.startswith('MALLOC_')} | variables
    done = subprocess.run([sys.executable, '-c', FAULTS], env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='glibc alone gives freed memory back at once')
def test_a_command_keeps_the_memory_that_it_frees():
    assert faults() < 10
    # The user's own settings come first; with these glibc gives every block back. Huge pages have 2 MiB.
    assert faults(MALLOC_MMAP_THRESHOLD_='131072') >= 20
