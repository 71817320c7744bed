"""`basicsr demo`: runs the whole pipeline on photographs from scikit-image, in minutes on two CPU cores.

Writes LQ/GT pairs and LMDBs, trains stage 1 and then stage 2, tests both on held-out photographs, and ends with a table
and side-by-side pictures in comparison with bicubic enlargement.
"""
from diffrwkvir_arch.toolbox.arguments import command_parser


def argument_parser():
    parser = command_parser('demo', __doc__)
    parser.add_argument('--iterations', type=int, default=500, help='iterations per stage (default: %(default)s)')
    return parser
