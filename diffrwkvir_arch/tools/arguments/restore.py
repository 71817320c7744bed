"""`basicsr restore`: your own images through a trained network, without an option file for a dataset."""
import argparse
from pathlib import Path

from diffrwkvir_arch.toolbox.arguments import add_imports

from .methods import NETWORKS, SHIPPED

# What `--format` writes.
FORMATS = ('png', 'jpg', 'webp', 'tif')
# The side of tiles that images of more than a megapixel are cut into.
TILE_OF_LARGE = 512

NOTES = f"""methods, as those of `basicsr compare`:
{NETWORKS}
  bicubic                 MATLAB-like enlargement
{SHIPPED}

examples:
  basicsr restore photo.png -o out/
  basicsr restore photo.png -m experiments/train_DiffRWKVIR_S2_x4/models/net_g_latest.pth
  basicsr restore holidays/ more/photo.jpg -m options/test_SwinIR_x4.yml -o enlarged --tile 256
  basicsr restore damaged/ --masks damaged_masks/ -m options/test_DiffRWKVIR_S2_inpaint_places256.yml

Writes FOLDER/NAME.png for every image, NAME.jpg.png where another is called NAME too: grey stays grey, 16 bits stay 16
bits and floats become 16, an alpha channel is enlarged bicubically (beside grey it is written with three equal
colours). A network of one channel restores each channel of a colour image by itself. --format jpg is of quality 95 with
full colours, webp lossless; these hold 8 bits, and jpg no transparency. A photograph is turned as its EXIF says; its
colour profile and the rest of its EXIF are kept. What is there already is left as it is, so that the same command
continues where it was stopped; where it was made of other images, by another method or in another way, nothing is done
without --force. An image that cannot be restored is reported, and the others go on."""


def argument_parser():
    parser = argparse.ArgumentParser(prog='basicsr restore', description=__doc__, epilog=NOTES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='image files, and folders of them')
    parser.add_argument('--recursive', action='store_true',
                        help='subfolders too; their results lie in subfolders of the same names')
    parser.add_argument('-m', '--method', help='what restores them: below (default: what comes with the package)')
    parser.add_argument('-o', '--output', type=Path, default=Path('results/restored'), metavar='FOLDER',
                        help='default: %(default)s')
    parser.add_argument('--format', choices=FORMATS, default='png', help='of the results (default: %(default)s)')
    parser.add_argument('--suffix', default='', metavar='TEXT',
                        help='ends their names: _x4 makes photo_x4.png of photo.jpg')
    parser.add_argument('--scale', type=int,
                        help='output side over input side (default: that of the network, or 4)')
    parser.add_argument('--masks', metavar='FOLDER', help='masks of the same names, white where there is a hole')
    parser.add_argument('--tile', type=int, metavar='PIXELS',
                        help='restore larger images in tiles of this side, which takes less memory; 0: never (default: '
                        f'{TILE_OF_LARGE} for images of more than a megapixel without holes)')
    parser.add_argument('--overlap', type=int, metavar='PIXELS', help='of tiles (default: 16, at most half a tile)')
    parser.add_argument('--self-ensemble', action='store_true',
                        help='the mean over eight flips and turns: a little better, eight times as slow')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N (default: a GPU if there is one)')
    parser.add_argument('--amp', choices=['bf16'], help='compute in bfloat16 where that keeps precision: faster and '
                        'smaller on recent GPUs, of a CPU only on some')
    add_imports(parser)
    parser.add_argument('--force', action='store_true', help='restore anew what is there already')
    return parser
