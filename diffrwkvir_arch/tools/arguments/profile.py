"""`basicsr profile`: parameters, FLOPs, memory and time of networks side by side, as the paper's Table 4 compares them.

Networks are given by their registered names, built with their defaults, or by option files.
"""
import argparse
from pathlib import Path

from diffrwkvir_arch.toolbox.arguments import add_imports

DTYPES = ('float32', 'float64', 'bfloat16', 'float16')

NOTES = """examples:
  basicsr profile DiffRWKVIRS2 DiffIRS2
  basicsr profile -opt options/test_DiffRWKVIR_S2_x4.yml options/test_SwinIR_x4.yml --input 3 64 64 --train
  basicsr profile --import mypkg MyNet DiffRWKVIRS2
  basicsr profile DiffRWKVIRS2 --modules 2 --no-latency --markdown profile.md

FLOPs count products, convolutions, attention and operators with a registered formula, two for a multiply-add (MAC);
elementwise work, norms and interpolation count nothing. Memory is the most that is held at once beyond parameters and
images: on a GPU by PyTorch's caching allocator; on a CPU by what PyTorch's allocator hands out, inside operators too.
A training step is a forward and a backward pass of the L1 loss, without an optimizer. Networks take turns within every
repetition, so that whatever else the machine does falls on all of them; a ratio is the median of those within
repetitions, over the first network. Where a network has a window_size, its LQ grows to whole windows, as in a test."""


def argument_parser():
    parser = argparse.ArgumentParser(prog='basicsr profile', description=__doc__, epilog=NOTES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('names', nargs='*', metavar='NAME', help='registered networks, built with their defaults')
    parser.add_argument('-opt', nargs='+', default=[], metavar='FILE', help='option files: network_g is measured')
    parser.add_argument('--input', nargs='+', metavar='N',
                        help='C H W: channels, height and width of the LQ, without a mask (default: the channels of '
                        'the networks, 64 64)')
    parser.add_argument('--batch', type=int, default=1, help='images at once (default: %(default)s)')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N (default: %(default)s)')
    parser.add_argument('--dtype', choices=DTYPES, default='float32', help='of parameters and images')
    parser.add_argument('--threads', type=int, help='of the CPU')
    parser.add_argument('--repeats', type=int, default=10, help='timed repetitions (default: %(default)s)')
    parser.add_argument('--no-latency', action='store_true', help='measure no times')
    parser.add_argument('--train', action='store_true', help='memory and time of a training step as well')
    parser.add_argument('--modules', type=int, default=0, metavar='DEPTH', help='a table of modules to this depth')
    add_imports(parser)
    parser.add_argument('--csv', type=Path, metavar='FILE', help='write all numbers, a line for each network')
    parser.add_argument('--markdown', type=Path, metavar='FILE', help='write what is printed')
    # A NAME may come after an option.
    parser.parse_args = parser.parse_intermixed_args
    return parser
