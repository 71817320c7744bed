"""`basicsr demo`: the whole job on photographs that scikit-image ships, in minutes on two CPU cores.

Writes LQ/GT pairs and LMDBs, trains stage 1, hands over to stage 2, tests both on photographs that were held out, and
ends with a table and side-by-side pictures against bicubic enlargement.
"""
import argparse


def argument_parser():
    parser = argparse.ArgumentParser(prog='basicsr demo', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--iterations', type=int, default=500, help='of each stage (default: %(default)s)')
    return parser
