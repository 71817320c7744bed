"""Compiles the Triton kernels of a call ahead of time, without a GPU, and reads the machine code."""
import re
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import JITFunction, driver

from state_evolution import triton_body

TOOL = Path(triton.__file__).parent / 'backends/nvidia/bin/cuobjdump'
CHUNK, INTERVAL = 16, 4


@dataclass
class Compiled:
    name: str
    warps: int
    registers: int          # per thread
    spills: int             # instructions that move registers to local memory or back
    shared: int             # bytes
    instructions: float     # warp instructions per token of the largest loop, all warps of the program together
    spills_in_loops: int    # of the spills, those in loops that hold no other loop
    uses_wgmma: bool


class AbsentGpu:
    """As much of Triton's driver as compiling needs, for compute capability `number` / 10."""

    def __init__(self, number):
        self.number = number

    def get_current_target(self):
        return GPUTarget('cuda', self.number, 32)

    def get_current_device(self):
        return self.number    # Triton caches by device: each target needs one of its own.

    def get_current_stream(self, device):
        return 0


@contextmanager
def compiling_for(number, wanted):
    """Yields the list of what launches would have run: name, compiled kernel."""
    compiled, original = [], JITFunction.run

    def run(self, *args, grid, warmup, **options):
        if self.fn.__name__ in wanted:
            kernel = original(self, *args, grid=grid, warmup=True, **options)
            compiled.append((self.fn.__name__, kernel))

    driver.set_active(AbsentGpu(number))
    try:
        with patch.object(JITFunction, 'run', run):
            yield compiled
    finally:
        with suppress(RuntimeError):    # Without a GPU there is no driver to go back to.
            driver.reset_active()


def compile_call(number, dtype, dim, length, wanted):
    """The wanted kernels of a call on (1, length, 6, dim) with four directions: {what it does: Compiled}."""
    def tensor(*shape, dtype=dtype):
        return torch.empty(shape, dtype=dtype, device='meta')

    height = width = round(length ** .5)
    q, gate = tensor(1, length, 6, dim), tensor(4, 1, length, 6)
    options = height, width, [0, 1, 2, 3], 16
    with compiling_for(number, wanted) as compiled:
        triton_body.forward(q, q, q, gate, gate, None, *options, True)
        states = tensor(*triton_body.states_shape(q, q, 4, 16), dtype=torch.float32)
        triton_body.backward(q, q, q, gate, gate, states, *options, q, None)
    names = [name for name, _ in compiled]
    results = {}
    for i, (name, kernel) in enumerate(compiled):
        finds_map = 'walk' in name and i == names.index(name)
        results[name + ' for the maps' if finds_map else name] = inspect(name, kernel, triton.cdiv(dim, CHUNK))
    return results


def inspect(name, kernel, row_blocks):
    with tempfile.NamedTemporaryFile(suffix='.cubin') as file:
        file.write(kernel.asm['cubin'])
        file.flush()
        report = subprocess.run([TOOL, '-sass', '-res-usage', file.name], capture_output=True, text=True, check=True)
    text = report.stdout + report.stderr
    instructions = [(int(place, 16), code) for place, code in re.findall(r'/\*([0-9a-f]{4,})\*/\s+(.*?);', text)]
    warps = kernel.metadata.num_warps
    loops = loops_of(instructions)
    spills = [place for place, code in instructions if re.search(r'\b(LDL|STL)\b', code)]
    innermost = [loop for loop in loops if not any(loop != other and contains(loop, other) for other in loops)]
    in_loops = sum(any(first <= place <= last for first, last in innermost) for place in spills)
    return Compiled(name, warps, int(re.search(r'\bREG:(\d+)', text)[1]), len(spills), kernel.metadata.shared,
                    in_main_loop(instructions, loops, row_blocks) * warps / CHUNK, in_loops, 'GMMA' in text)


def loops_of(instructions):
    """(first, last) place of each: a branch back is a loop."""
    jumps = ((place, re.search(r'\bBRA\b.*?(0x[0-9a-f]+)', code)) for place, code in instructions)
    return [(int(jump[1], 16), place) for place, jump in jumps if jump and int(jump[1], 16) < place]


def contains(loop, other):
    return loop[0] <= other[0] and other[1] <= loop[1]


def in_main_loop(instructions, loops, row_blocks):
    """Instructions per chunk of the largest loop.

    Where it goes over intervals, its loops go over their chunks, and the loops in these over blocks of rows, or the
    other way round.
    """
    main = max(loops, key=lambda loop: loop[1] - loop[0])
    levels = [sum(first <= place <= last for first, last in loops) for place, _ in instructions
              if main[0] <= place <= main[1]]
    if max(levels) == 1:
        return len(levels)
    return levels.count(1) / INTERVAL + levels.count(2) + levels.count(3) * row_blocks
