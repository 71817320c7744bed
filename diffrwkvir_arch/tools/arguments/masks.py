"""`basicsr masks`: freezes a set of masks for a folder of images, so that everybody who compares fills the same holes.

Writes masks/STEM.png for each image (white is the hole), manifest.csv with preset, seed and area of each, and
preview.png. After an interrupt the same command begins anew. An option file reads masks/ as dataroot_mask. The same
preset and seed as its `mask` would draw the same, as long as numpy's generators do.
"""
import argparse
from pathlib import Path

NOTES = """presets: lama_thin_256, lama_medium_256, lama_thick_256, lama_thin_512, lama_medium_512, lama_thick_512,
lama_train_256, box, centre, border

examples:
  basicsr masks datasets/CelebA-HQ/val_256 --preset lama_thick_256 -o datasets/CelebA-HQ/val_256_thick
  basicsr masks photos --preset centre --size 0.25 -o photos_centre"""


def argument_parser():
    parser = argparse.ArgumentParser(prog='basicsr masks', description=__doc__, epilog=NOTES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('images', type=Path, help='folder of images, or LMDB')
    parser.add_argument('-o', '--out', type=Path, required=True, help='folder to make')
    parser.add_argument('--preset', nargs='+', required=True, metavar='NAME',
                        help='of several, one is drawn for each image')
    parser.add_argument('--seed', type=int, default=0, help='default: %(default)s')
    parser.add_argument('--size', type=float, help='of box, centre and border, over the sides of the image')
    parser.add_argument('--max-area', type=float, help='largest share of the image; default: the preset\'s')
    return parser
