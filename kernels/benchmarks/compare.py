"""Times state evolution over images, all four directions, beside its peers and beside what the machine allows.

    python kernels/benchmarks/compare.py
    python kernels/benchmarks/compare.py --size 64 --heads 6x32 --backends triton chunked gdn --csv times.csv

On a GPU every axis is taken whole unless narrowed, on a CPU a small subset that takes a few minutes. A body that cannot
run is left out, with the reason below the table. The peers are no dependencies; where wanted:

    pip install flash-linear-attention                    # gdn, kda, rwkv7; needs a CUDA device
    pip install mamba-ssm --no-build-isolation            # mamba; builds CUDA code
"""
import argparse
import sys
from functools import partial
from itertools import product

import torch
from bodies import BODIES, DTYPES, PASSES, Case, forward, make_inputs
from machine import copy_bandwidth, floor_milliseconds, matmul_rate
from report import (EVERYTHING, Row, errors_section, head_section, left_out_section, memory_section, times_section,
                    write_csv)
from timing import peak_extra_bytes, time_in_turns

DEFAULTS = {
    'cuda': {'batch': [1, 4, 16], 'size': [48, 64, 128, 256], 'heads': [(4, 32), (6, 32), (9, 16), (3, 64)],
             'dtype': ['bf16', 'fp32'], 'repeats': 50, 'seconds': 3},
    'cpu': {'batch': [1], 'size': [48, 64], 'heads': [(6, 32)], 'dtype': ['fp32'], 'repeats': 9, 'seconds': 10},
}
# Launches kernels for every token: hours on a GPU, where token-loop takes its place.
NOT_BY_DEFAULT = {'cuda': ['recurrent'], 'cpu': []}
LARGEST_ERROR_SIZE = 48    # the definition keeps a state per token for its gradients
TENSORS = ('o', 'dq', 'dk', 'dv', 'dlog_decay', 'dstep_size')


def progress(text):
    print(text, file=sys.stderr, flush=True)


def describe(error):
    first_line = (str(error).strip().splitlines() or ['no message'])[0]
    return f'{type(error).__name__}: {first_line}'


class Comparison:
    """Runs bodies and remembers which did not, and why."""

    def __init__(self, names, device):
        self.names, self.device = list(names), device
        self.left_out = []    # (body, where, reason)

    def attempt(self, name, where, call):
        """The result of a call, or None if it raised."""
        try:
            result = call()
            if self.device == 'cuda':
                torch.cuda.synchronize()
            return result
        except Exception as error:    # whatever a peer raises, the others are still to be timed
            self.left_out.append((name, where, describe(error)))
            if isinstance(error, ImportError):
                self.names.remove(name)
            if self.device == 'cuda':
                torch.cuda.empty_cache()
            return None

    def time(self, case, passes, repeats, seconds, bandwidth, rate):
        """-> a Row for each pass."""
        inputs, calls = {}, {pass_name: {} for pass_name in passes}
        for name in list(self.names):
            body = BODIES[name]
            make = body.make_inputs
            if make not in inputs:
                inputs[make] = make(case, self.device)
            o = self.attempt(name, f'{case}, forward', forward(body, inputs[make], None, case.size))
            if o is None:
                continue
            do = torch.randn_like(o)
            for pass_name in passes:
                call = self.attempt(name, f'{case}, {pass_name}',
                                    partial(first_call, PASSES[pass_name], body, inputs[make], do, case.size))
                if call is not None:
                    calls[pass_name][name] = call

        rows = []
        for pass_name in passes:
            progress(f'  {pass_name}: {", ".join(calls[pass_name]) or "nothing runs"}')
            times = time_in_turns(calls[pass_name], self.device, repeats, seconds)
            peaks = {}
            if pass_name == 'forward+backward':
                peaks = {name: peak_extra_bytes(call, self.device) for name, call in calls[pass_name].items()}
            rows.append(Row(case, pass_name, times, floor_milliseconds(case, pass_name, bandwidth, rate), peaks))
        return rows

    def errors(self, case):
        """-> (inputs, body) -> relative errors of TENSORS, on random tokens and on those of a smooth image."""
        torch.manual_seed(0)
        errors = {}
        for kind in ('random', 'smooth'):
            inputs = make_inputs(case, self.device, smooth=kind == 'smooth')
            do = torch.randn_like(inputs[2])
            exact = [x.detach().double().requires_grad_() for x in inputs]
            truth = results_and_gradients(BODIES['recurrent'], exact, do.double(), case.size)
            for name in [name for name in self.names if BODIES[name].is_state_evolution]:
                body, where = BODIES[name], f'{case}, errors'
                o = self.attempt(name, where, forward(body, inputs, None, case.size))
                if o is None:
                    continue
                # Where its backward pass does not run, the error of o remains.
                values = self.attempt(name, where, partial(results_and_gradients, body, inputs, do, case.size)) or [o]
                errors[f'{case}, {kind}', name] = [relative_error(x, y) for x, y in zip(values, truth)]
        return errors


def first_call(make_call, *args):
    """What is timed, after it has run once."""
    call = make_call(*args)
    call()
    return call


def results_and_gradients(body, inputs, do, size):
    o = body.run(*inputs, size=size)
    return [o.detach(), *torch.autograd.grad(o, inputs, do)]


def relative_error(x, truth):
    return ((x.double() - truth).norm() / truth.norm()).item()


def positive(text):
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'an integer >= 1 is needed, got {text!r}')
    return int(text)


def heads_and_dim(text):
    heads, _, dim = text.partition('x')
    if not dim:
        raise argparse.ArgumentTypeError(f'heads are given as HxD, such as 6x32, got {text!r}')
    return positive(heads), positive(dim)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batch', type=positive, nargs='+')
    parser.add_argument('--size', type=positive, nargs='+', help='sides of square images')
    parser.add_argument('--heads', type=heads_and_dim, nargs='+', metavar='HxD')
    parser.add_argument('--passes', nargs='+', choices=PASSES, default=list(PASSES))
    parser.add_argument('--dtype', nargs='+', choices=DTYPES, help='of q, k, v; gates are float32')
    parser.add_argument('--backends', nargs='+', choices=BODIES, help='bodies; ratios are to the first that runs in '
                        'this order: ' + ', '.join(BODIES))
    parser.add_argument('--device', choices=('cuda', 'cpu'), default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--repeats', type=positive, help='repetitions of each row (50 on a GPU, 9 on a CPU) ...')
    parser.add_argument('--seconds', type=positive,
                        help='... or as many as fit into this (3 on a GPU, 10 on a CPU), but 3 at least')
    parser.add_argument('--threads', type=positive, help='of the CPU')
    parser.add_argument('--csv', help='also write the times to this file, a line for each body')
    parser.add_argument('--markdown', help='also write the report to this file')
    args = parser.parse_args()
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda: PyTorch sees no CUDA device')
    for option, value in DEFAULTS[args.device].items():
        if getattr(args, option) is None:
            setattr(args, option, value)
    if args.backends is None:
        args.backends = [name for name in BODIES if name not in NOT_BY_DEFAULT[args.device]]
    return args


def main():
    args = parse()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.device == 'cpu':
        # The larger tensors of a network make the C allocator keep freed memory. Without one it returns every call's
        # memory to the system, and page faults are timed instead.
        torch.ones(7_500_000)
    progress('copy bandwidth and matmul rate')
    bandwidth, rate = copy_bandwidth(args.device), matmul_rate(args.device)

    comparison = Comparison([name for name in BODIES if name in args.backends], args.device)
    grid = [Case(batch, size, *heads, dtype)
            for batch, size, heads, dtype in product(args.batch, args.size, args.heads, args.dtype)]
    rows, errors = [], {}
    try:
        for dtype in args.dtype:
            case = Case(1, min(LARGEST_ERROR_SIZE, *args.size), *args.heads[0], dtype)
            progress(f'errors: {case}')
            errors.update(comparison.errors(case))
        for number, case in enumerate(grid, 1):
            progress(f'[{number}/{len(grid)}] {case}')
            rows += comparison.time(case, args.passes, args.repeats, args.seconds, bandwidth, rate)
    except (Exception, KeyboardInterrupt) as error:    # a kernel may leave the device unusable: report what there is
        comparison.left_out.append((EVERYTHING, f'from {case} on', describe(error)))

    cpu_default = args.device == 'cpu' and all(getattr(args, option) == value for option, value in
                                               DEFAULTS['cpu'].items() if option not in ('repeats', 'seconds'))
    lines = [*head_section(rows, args.device, "a small subset, the CPU's default" if cpu_default else 'as asked'),
             *times_section(rows, bandwidth, rate), *left_out_section(rows, comparison.left_out),
             *errors_section(errors, TENSORS), *memory_section(rows, args.device)]
    report = '\n'.join(lines)
    print(report)
    if args.markdown:
        with open(args.markdown, 'w') as file:
            file.write(report)
    if args.csv:
        write_csv(args.csv, rows)


if __name__ == '__main__':
    main()
