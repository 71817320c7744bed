"""Times the chunk form against the token loop that defines the operator, and four scans in one call against four calls.

    python kernels/benchmarks/state_evolution.py --threads 2 --repeats 15 --shapes 1x4096x6x32 --csv times.csv

The bodies take turns within every repetition, so that whatever else the machine does falls on all of them. A ratio is
the median over repetitions of (time of the loop) / (time of the other), with its quartiles; beside it stands the ratio of
the fastest calls, which says what an idle machine would.
"""
import argparse
import csv
import platform
import statistics
import sys
import time
from pathlib import Path

# This file has the package's name: were its folder searched first, it would import itself.
sys.path[:] = [path for path in sys.path if Path(path).resolve() != Path(__file__).resolve().parent]

import torch
import torch.nn.functional as F

from state_evolution import DIRECTIONS, state_evolution, state_evolution_2d


def make_inputs(batch, length, heads, dim):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, batch, length, heads, dim).unbind()
    log_decay, step_size = -F.softplus(torch.randn(batch, length, heads)), torch.rand(batch, length, heads)
    return [x.requires_grad_() for x in (q, F.normalize(k, dim=-1), v, log_decay, step_size)]


def one_dimension(backend):
    return lambda inputs, side: state_evolution(*inputs, backend=backend)


def four_at_once(inputs, side):
    return state_evolution_2d(*inputs, side, side)


def four_in_turn(inputs, side):
    return sum(state_evolution_2d(*inputs, side, side, directions=(direction,)) for direction in DIRECTIONS)


def forward(call, inputs, side):
    with torch.no_grad():
        call(inputs, side)


def forward_and_backward(call, inputs, side):
    torch.autograd.grad(call(inputs, side).sum(), inputs)


def milliseconds(function, *args):
    start = time.perf_counter()
    function(*args)
    return (time.perf_counter() - start) * 1e3


def compare(mode, slow, fast, inputs, side, repeats):
    """Medians of both in ms; first quartile, median and third quartile of the ratio; ratio of the fastest calls."""
    for call in (slow, fast):
        mode(call, inputs, side)
    pairs = [(milliseconds(mode, slow, inputs, side), milliseconds(mode, fast, inputs, side)) for _ in range(repeats)]
    ratios = statistics.quantiles([a / b for a, b in pairs], n=4) if repeats > 1 else [pairs[0][0] / pairs[0][1]] * 3
    slow_ms, fast_ms = zip(*pairs)
    return statistics.median(slow_ms), statistics.median(fast_ms), *ratios, min(slow_ms) / min(fast_ms)


def processor():
    try:
        with open('/proc/cpuinfo') as file:
            return next(line.split(':')[1].strip() for line in file if line.startswith('model name'))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def shape(text):
    try:
        batch, length, heads, dim = map(int, text.split('x'))
    except ValueError:
        raise argparse.ArgumentTypeError(f'a shape is BxLxHxD, such as 1x4096x6x32, got {text!r}') from None
    return batch, length, heads, dim


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--shapes', type=shape, nargs='+', default=[(1, 4096, 6, 32)], metavar='BxLxHxD')
    parser.add_argument('--repeats', type=int, default=9)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--csv', help='also write the table to this file')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    # The larger tensors of a network make the C allocator keep freed memory. Without one it returns every call's memory
    # to the system, and page faults are timed instead.
    torch.ones(7_500_000)
    print(f'torch {torch.__version__}, {processor()}, {args.threads} threads, {args.repeats} repetitions\n')

    columns = ('B x L x H x D', 'pass', 'slow', 'ms', 'fast', 'ms', 'ratio', 'quartiles', 'of the fastest')
    print('| ' + ' | '.join(columns) + ' |\n|' + '---|' * len(columns))
    rows = []
    for dims in args.shapes:
        inputs, side = make_inputs(*dims), int(dims[1] ** .5)
        pairs = [('recurrent', one_dimension('recurrent'), 'chunked', one_dimension('chunked'))]
        if side * side == dims[1]:
            pairs.append(('4 scans in turn', four_in_turn, '4 scans in one call', four_at_once))
        for slow_name, slow, fast_name, fast in pairs:
            for name, mode in (('forward', forward), ('forward + backward', forward_and_backward)):
                slow_ms, fast_ms, low, ratio, high, best = compare(mode, slow, fast, inputs, side, args.repeats)
                rows.append(('x'.join(map(str, dims)), name, slow_name, f'{slow_ms:.1f}', fast_name, f'{fast_ms:.1f}',
                             f'{ratio:.1f}', f'{low:.1f} .. {high:.1f}', f'{best:.1f}'))
                print('| ' + ' | '.join(rows[-1]) + ' |', flush=True)
    if args.csv:
        with open(args.csv, 'w', newline='') as file:
            csv.writer(file).writerows([columns, *rows])


if __name__ == '__main__':
    main()
