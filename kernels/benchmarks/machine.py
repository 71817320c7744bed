"""The machine under the benchmark: its versions, its two measured rates, and the time that no body beats at these."""
import os
import platform
from importlib.metadata import PackageNotFoundError, version

import torch
from timing import flush_buffer, milliseconds

from state_evolution.flops import multiply_adds

PACKAGES = ('torch', 'triton', 'numba', 'flash-linear-attention', 'mamba-ssm')
# Several times the caches, and long enough to reach the full rate.
COPY_BYTES = {'cpu': 2 ** 28, 'cuda': 2 ** 30}
MATRIX_SIDE = {'cpu': 1024, 'cuda': 8192}
TRIES = 7
BYTES = {'bf16': 2, 'fp32': 4}
GATE_BYTES = 4


def package_version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return 'not installed'


def processor():
    try:
        with open('/proc/cpuinfo') as file:
            return next(line.split(':')[1].strip() for line in file if line.startswith('model name'))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def description(device):
    """Lines for the head of a report."""
    if device == 'cuda':
        gpu = torch.cuda.get_device_properties(0)
        name = f'{gpu.name}, {gpu.total_memory / 2 ** 30:.0f} GiB, {gpu.multi_processor_count} multiprocessors'
    else:
        name = f'{processor()}, {torch.get_num_threads()} threads of {os.cpu_count()} logical cores'
    packages = ', '.join(f'{package} {package_version(package)}' for package in PACKAGES)
    return [f'Device: {name}', f'Python {platform.python_version()}, {packages}, CUDA {torch.version.cuda or "none"}']


def fastest_seconds(call, device):
    flushed = flush_buffer(device)
    milliseconds(call, flushed)
    return min(milliseconds(call, flushed) for _ in range(TRIES)) / 1e3


def copy_bandwidth(device):
    """Bytes read and written per second by a large copy."""
    source = torch.ones(COPY_BYTES[device], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / fastest_seconds(lambda: target.copy_(source), device)


def matmul_rate(device):
    """FLOP/s of a large matrix product, in bfloat16 or float32, whichever is faster: a body may round its operands."""
    side, rates = MATRIX_SIDE[device], []
    for dtype in (torch.bfloat16, torch.float32):
        a, b = torch.randn(2, side, side, dtype=dtype, device=device)
        rates.append(2 * side ** 3 / fastest_seconds(lambda: a @ b, device))
    return max(rates)


def qkv_bytes(case):
    return 3 * case.batch * case.size ** 2 * case.heads * case.dim * BYTES[case.dtype]


def floor_milliseconds(case, pass_name, bandwidth, rate):
    """The longer of moving every input and result once, and of the definition's products over four directions."""
    tokens = case.batch * case.size ** 2 * case.heads
    vector, gates = tokens * case.dim * BYTES[case.dtype], 2 * tokens * GATE_BYTES
    moved = 4 * vector + gates    # in: q, k, v, gates; out: o
    shape = (case.batch, case.size ** 2, case.heads, case.dim)
    flops = 2 * multiply_adds(shape, shape, 4)
    back = 7 * vector + 2 * gates    # in: q, k, v, gates and the gradient of o; out: five gradients
    if pass_name == 'backward':
        moved, flops = back, 2 * flops
    if pass_name == 'forward+backward':
        moved, flops = moved + back, 3 * flops
    return max(moved / bandwidth, flops / rate) * 1e3
