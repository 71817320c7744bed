"""`basicsr profile`: compares parameters, FLOPs, memory and time of networks, as in the paper's Table 4.

Networks are given by their registered names, built with their defaults, or by option files.
"""
from pathlib import Path

from diffrwkvir_arch.toolbox.arguments import add_imports, command_parser

DTYPES = ('float32', 'float64', 'bfloat16', 'float16')

NOTES = """examples:
  basicsr profile DiffRWKVIRS2 DiffIRS2
  basicsr profile -opt options/test_DiffRWKVIR_S2_x4.yml options/test_SwinIR_x4.yml --input 3 64 64 --train
  basicsr profile --import mypkg MyNet DiffRWKVIRS2
  basicsr profile DiffRWKVIRS2 --modules 2 --no-latency --markdown profile.md

FLOPs include matrix products, convolutions, attention and operators with a registered formula, two per multiply-add
(MAC); elementwise operations, norms and interpolation are not counted. Memory is the peak beyond parameters and images:
on a GPU that of PyTorch's caching allocator, on a CPU that of PyTorch's allocator, including memory inside operators.
A training step is a forward and backward pass with the L1 loss, without an optimizer. Networks take turns within every
repetition, so that other load on the machine affects all of them; ratios are medians over repetitions, relative to the
first network. The LQ of a network with a window_size is enlarged to whole windows, as in a test."""


def argument_parser():
    parser = command_parser('profile', __doc__, NOTES)
    parser.add_argument('names', nargs='*', metavar='NAME', help='registered networks, built with their defaults')
    parser.add_argument('-opt', nargs='+', default=[], metavar='FILE', help='option files whose network_g is measured')
    parser.add_argument('--input', nargs='+', metavar='N',
                        help='C H W: channels, height and width of the LQ, without a mask (default: the channels of '
                        'the networks and 64 64)')
    parser.add_argument('--batch', type=int, default=1, help='images per batch (default: %(default)s)')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N (default: %(default)s)')
    parser.add_argument('--dtype', choices=DTYPES, default='float32', help='data type of parameters and images')
    parser.add_argument('--threads', type=int, help='CPU threads')
    parser.add_argument('--repeats', type=int, default=10, help='timed repetitions (default: %(default)s)')
    parser.add_argument('--no-latency', action='store_true', help='skip the timing')
    parser.add_argument('--train', action='store_true', help='also measure memory and time of a training step')
    parser.add_argument('--modules', type=int, default=0, metavar='DEPTH',
                        help='print a table of modules down to this depth')
    add_imports(parser)
    parser.add_argument('--csv', type=Path, metavar='FILE',
                        help='write all numbers to a CSV file, one line per network')
    parser.add_argument('--markdown', type=Path, metavar='FILE', help='write the printed tables to a Markdown file')
    # A NAME may come after an option.
    parser.parse_args = parser.parse_intermixed_args
    return parser
