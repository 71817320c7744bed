"""`basicsr export`: a trained network as ONNX or as a program of PyTorch, for machines without this package."""
import argparse
from pathlib import Path

from diffrwkvir_arch.toolbox.arguments import add_imports

from .methods import NETWORKS, SHIPPED

NOTES = f"""methods, as those of `basicsr compare`:
{NETWORKS}
{SHIPPED}

examples:
  basicsr export -o DiffRWKVIR-tiny_x4.onnx --size 128 128
  basicsr export -m experiments/train_DiffRWKVIR_S2_x4/models/net_g_latest.pth -o DiffRWKVIR_x4.onnx --size 64 64
  basicsr export -m options/test_SwinIR_x4.yml -o SwinIR_x4.pt2 --size 128 128

FILE.onnx is for ONNX Runtime and what else reads ONNX (pip install 'diffrwkvir[onnx]'), FILE.pt2 for torch.export.load.
Both map `lq` (1, 3, H, W), RGB in [0, 1], to `restored` (1, 3, scale*H, scale*W); networks that inpaint take `mask`
(1, 1, H, W), 1 in the hole, too, and those for grey images one channel. The size is fixed: cut larger images into tiles
of it; each then has a prior of its own, where `basicsr restore --tile` shares the whole image's. What is written has
been run and compared with the network."""


def argument_parser():
    parser = argparse.ArgumentParser(prog='basicsr export', description=__doc__, epilog=NOTES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('-m', '--method', help='the network and its weights: below (default: what comes with the '
                        'package)')
    parser.add_argument('-o', '--output', type=Path, required=True, metavar='FILE', help='FILE.onnx or FILE.pt2')
    parser.add_argument('--size', type=int, nargs=2, required=True, metavar=('H', 'W'), help='of the LQ, in pixels')
    parser.add_argument('--scale', type=int,
                        help='output side over input side (default: that of the network, or 4)')
    add_imports(parser)
    return parser
