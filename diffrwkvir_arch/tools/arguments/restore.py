"""`basicsr restore`: restores your own images with a trained network, without an option file for a dataset."""
from pathlib import Path

from diffrwkvir_arch.toolbox.arguments import add_imports, command_parser

from .methods import NETWORKS, SHIPPED

# What `--format` writes.
FORMATS = ('png', 'jpg', 'webp', 'tif')
# The side of tiles that images of more than a megapixel are cut into.
TILE_OF_LARGE = 512

NOTES = f"""methods, as in `basicsr compare`:
{NETWORKS}
  bicubic                 MATLAB-like enlargement
{SHIPPED}

examples:
  basicsr restore photo.png -o out/
  basicsr restore photo.png -m experiments/train_DiffRWKVIR_S2_x4/models/net_g_latest.pth
  basicsr restore holidays/ more/photo.jpg -m options/test_SwinIR_x4.yml -o enlarged --tile 256
  basicsr restore damaged/ --masks damaged_masks/ -m options/test_DiffRWKVIR_S2_inpaint_places256.yml

Writes FOLDER/NAME.png for every image, or NAME.jpg.png if another image has the same NAME. Grey stays grey, 16 bits
stay 16 bits and floats become 16 bits; an alpha channel is enlarged bicubically (grey with alpha is written as three
equal colours). A network with one channel restores each channel of a colour image separately. --format jpg has quality
95 without chroma subsampling, webp is lossless; both hold 8 bits, and jpg no transparency. Photographs are rotated as
their EXIF says; their colour profile and the rest of their EXIF are kept. Existing results are left alone, so that the
same command continues where it stopped; if they were made from other images, by another method or with other settings,
nothing is done without --force. An image that cannot be restored is reported, and the others go on."""


def argument_parser():
    parser = command_parser('restore', __doc__, NOTES)
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='image files, and folders of them')
    parser.add_argument('--recursive', action='store_true',
                        help='include subfolders; results go to subfolders of the same names')
    parser.add_argument('-m', '--method',
                        help='what restores the images, see below (default: the weights of the package)')
    parser.add_argument('-o', '--output', type=Path, default=Path('results/restored'), metavar='FOLDER',
                        help='default: %(default)s')
    parser.add_argument('--format', choices=FORMATS, default='png', help='format of the results (default: %(default)s)')
    parser.add_argument('--suffix', default='', metavar='TEXT',
                        help='appended to names: _x4 turns photo.jpg into photo_x4.png')
    parser.add_argument('--scale', type=int,
                        help='output side over input side (default: that of the network, or 4)')
    parser.add_argument('--outscale', type=float, metavar='FACTOR',
                        help='resize the results to this factor of the input size, such as 2.5')
    parser.add_argument('--masks', metavar='FOLDER', help='masks with the names of the images, white in the holes')
    parser.add_argument('--tile', type=int, metavar='PIXELS',
                        help='restore larger images in tiles of this side, which needs less memory; 0: never (default: '
                        f'{TILE_OF_LARGE} for images of more than a megapixel without holes)')
    parser.add_argument('--overlap', type=int, metavar='PIXELS',
                        help='overlap of tiles (default: 16, at most half a tile)')
    parser.add_argument('--self-ensemble', action='store_true',
                        help='average over eight flips and rotations: slightly better, eight times as slow')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N (default: a GPU if there is one)')
    parser.add_argument('--amp', choices=['bf16'], help='compute in bfloat16 where precision allows: faster and less '
                        'memory on recent GPUs and on some CPUs')
    add_imports(parser)
    parser.add_argument('--force', action='store_true', help='replace existing results')
    return parser
