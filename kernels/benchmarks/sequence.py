"""Times the bodies for the CPU along one sequence against the token loop that defines the operator, and along the four
scans of an image against one.

    python kernels/benchmarks/sequence.py --threads 2 --shapes 1x4096x6x32

`of the fastest` is the ratio of the fastest calls: what an idle machine would give.
"""
import argparse
import statistics
from functools import partial

import torch
from bodies import PASSES, Body, Case, make_inputs
from compare import positive
from machine import description
from report import table
from timing import quartiles, time_in_turns

from state_evolution import state_evolution, state_evolution_2d


def along_sequence(backend, *inputs, size):
    return state_evolution(*inputs, backend=backend)


def along_scans(directions, *inputs, size):
    return state_evolution_2d(*inputs, size, size, directions=directions)


LOOP = 'recurrent'
ONE, FOUR = 'auto, one scan', 'auto, four scans'
# Pairs whose ratio is shown: (slow, fast).
PAIRS = ((LOOP, 'numba'), (LOOP, 'chunked'), (FOUR, ONE))
BODIES = {name: Body(name, partial(along_sequence, name)) for name in (LOOP, 'numba', 'chunked')}
BODIES[ONE] = Body(ONE, partial(along_scans, ('forward',)))
BODIES[FOUR] = Body(FOUR, partial(along_scans, ('forward', 'backward', 'downward', 'upward')))


def shape(text):
    """'1x64x6x32' -> a Case: batch, side of the image whose pixels are the sequence, heads, dim."""
    try:
        batch, length, heads, dim = map(positive, text.split('x'))
    except ValueError:
        raise argparse.ArgumentTypeError(f'a shape is BxLxHxD, such as 1x4096x6x32, got {text!r}') from None
    side = round(length ** .5)
    if side * side != length:
        raise argparse.ArgumentTypeError(f'L must be a square number, got {length}')
    return Case(batch, side, heads, dim, 'fp32')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--shapes', type=shape, nargs='+', default=[shape('1x4096x6x32')], metavar='BxLxHxD')
    parser.add_argument('--repeats', type=positive, default=15)
    parser.add_argument('--threads', type=positive, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    # The larger tensors of a network make the C allocator keep freed memory. Without one it returns every call's memory
    # to the system, and page faults are timed instead.
    torch.ones(7_500_000)
    print(*(f'- {line}' for line in description('cpu')), f'- {args.repeats} repetitions', '', sep='\n')
    rows = []
    for case in args.shapes:
        inputs = make_inputs(case, 'cpu')
        do = torch.randn_like(inputs[2])
        for pass_name in ('forward', 'forward+backward'):
            calls = {name: PASSES[pass_name](body, inputs, do, case.size) for name, body in BODIES.items()}
            times = time_in_turns(calls, 'cpu', args.repeats, seconds=float('inf'))
            for slow, fast in PAIRS:
                low, ratio, high = quartiles([a / b for a, b in zip(times[slow], times[fast])])
                rows.append([f'{case.batch}x{case.size ** 2}x{case.heads}x{case.dim}', pass_name,
                             slow, f'{statistics.median(times[slow]):.1f}',
                             fast, f'{statistics.median(times[fast]):.2f}',
                             f'{ratio:.1f}', f'{low:.1f} .. {high:.1f}', f'{min(times[slow]) / min(times[fast]):.1f}'])
    heading = ['B x L x H x D', 'pass', 'slow', 'ms', 'fast', 'ms', 'ratio', 'quartiles', 'of the fastest']
    print(*table(heading, rows), sep='\n')


if __name__ == '__main__':
    main()
