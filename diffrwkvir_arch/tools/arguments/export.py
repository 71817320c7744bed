"""`basicsr export`: writes a trained network as ONNX or as a PyTorch program, for use without this package."""
from pathlib import Path

from diffrwkvir_arch.toolbox.arguments import add_imports, command_parser

from .methods import NETWORKS, SHIPPED

NOTES = f"""methods, as in `basicsr compare`:
{NETWORKS}
{SHIPPED}

examples:
  basicsr export -o DiffRWKVIR-tiny_x4.onnx --size 128 128
  basicsr export -m experiments/train_DiffRWKVIR_S2_x4/models/net_g_latest.pth -o DiffRWKVIR_x4.onnx --size 64 64
  basicsr export -m options/test_SwinIR_x4.yml -o SwinIR_x4.pt2 --size 128 128

FILE.onnx is for ONNX Runtime and the like (pip install 'diffrwkvir[onnx]'), FILE.pt2 for torch.export.load.
Both map `lq` (1, 3, H, W), RGB in [0, 1], to `restored` (1, 3, scale*H, scale*W); inpainting networks also take `mask`
(1, 1, H, W), 1 in the hole, and networks for grey images have one channel. The size is fixed: cut larger images into
tiles of this size; each then has its own prior, whereas `basicsr restore --tile` shares that of the whole image. The
exported network is run and compared with the original before it is written."""


def argument_parser():
    parser = command_parser('export', __doc__, NOTES)
    parser.add_argument('-m', '--method', help='the network and its weights, see below (default: those of the '
                        'package)')
    parser.add_argument('-o', '--output', type=Path, required=True, metavar='FILE', help='FILE.onnx or FILE.pt2')
    parser.add_argument('--size', type=int, nargs=2, required=True, metavar=('H', 'W'), help='size of the LQ in pixels')
    parser.add_argument('--scale', type=int,
                        help='output side over input side (default: that of the network, or 4)')
    add_imports(parser)
    return parser
