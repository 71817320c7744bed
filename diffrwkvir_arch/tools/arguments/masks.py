"""`basicsr masks`: writes a fixed set of masks for a folder of images, so that all methods fill the same holes.

Writes masks/STEM.png for each image (white is the hole), manifest.csv with the preset, seed and area of each mask, and
preview.png. After an interrupt the same command starts again. An option file reads masks/ as dataroot_mask. The `mask`
section of an option file draws the same masks from the same preset and seed, as long as numpy's generators do.
"""
from pathlib import Path

from diffrwkvir_arch.toolbox.arguments import command_parser

NOTES = """presets: lama_thin_256, lama_medium_256, lama_thick_256, lama_thin_512, lama_medium_512, lama_thick_512,
lama_train_256, box, centre, border

examples:
  basicsr masks datasets/CelebA-HQ/val_256 --preset lama_thick_256 -o datasets/CelebA-HQ/val_256_thick
  basicsr masks photos --preset centre --size 0.25 -o photos_centre"""


def argument_parser():
    parser = command_parser('masks', __doc__, NOTES)
    parser.add_argument('images', type=Path, help='folder of images, or LMDB')
    parser.add_argument('-o', '--out', type=Path, required=True, help='folder to create')
    parser.add_argument('--preset', nargs='+', required=True, metavar='NAME',
                        help='kind of masks; if several are given, one is drawn for each image')
    parser.add_argument('--seed', type=int, default=0, help='default: %(default)s')
    parser.add_argument('--size', type=float, help='size of box, centre and border, relative to the sides of the image')
    parser.add_argument('--max-area', type=float,
                        help='largest share of the image that is hole (default: that of the preset)')
    return parser
