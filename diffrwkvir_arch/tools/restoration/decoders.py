"""What the decoders of image files print to stderr, of no file by name and into the bar."""
import contextlib
import os
import re
import sys
import tempfile

# What OpenCV begins a line with: '[ WARN:0@10.675] global grfmt_tiff.cpp:123 TIFF_Warning '.
ORIGIN = re.compile(r'^\[.*?\] global \S+ \S+ ')


@contextlib.contextmanager
def heard():
    """A list, which gets the lines that are printed meanwhile, by libraries in C too, in place of stderr."""
    lines = []
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            file.seek(0)
            said = file.read().decode(errors='replace').splitlines()
            lines += [ORIGIN.sub('', line) for line in said if line.strip()]
