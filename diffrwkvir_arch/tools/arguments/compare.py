"""`basicsr compare`: compares methods on sets of images, as in the paper's Tables 3 and 4 and its figures."""

from diffrwkvir_arch.toolbox.arguments import add_imports, command_parser

from .methods import NETWORKS

NOTES = f"""methods:
  bicubic                 MATLAB-like enlargement
  lq                      at scale 1 the LQ itself, as a baseline
  telea, navier-stokes    OpenCV's two ways to fill holes
{NETWORKS}
  FOLDER                  images that were restored elsewhere: FOLDER/NAME.png or FOLDER/SET/NAME.png, named like the
                          GT, or with the same addition to all names, such as baby_SwinIR.png
sets:
  GT_FOLDER:LQ_FOLDER     pairs by file name, such as baby.png with baby.png or babyx4.png; LMDBs too
  GT_FOLDER:MASK_FOLDER   with --masks: images with holes, as written by `basicsr masks`; white is the hole
  GT_FOLDER               the LQ is made by MATLAB-like bicubic downscaling
  FILE.yml                the test and val datasets of an option file, with their masks, noise, blur or JPEG
NAME= in front of any of them sets its name in tables and pictures. Methods that take no mask fail on sets with holes,
and vice versa; every method keeps the known pixels of the image.

examples:
  basicsr compare --methods bicubic ours=options/test_DiffRWKVIR_S2_x4.yml swinir=options/test_SwinIR_x4.yml \\
      --sets Set5=datasets/Set5/GTmod12:datasets/Set5/LRbicx4 datasets/my_photos --scale 4 -o results/compare
  basicsr compare --methods bicubic experiments/train_SwinIR_x4/models/net_g_latest.pth \\
      --sets options/test_SwinIR_x4.yml
  basicsr compare --methods telea navier-stokes options/test_DiffRWKVIR_S2_inpaint_places256.yml \\
      --sets options/test_DiffRWKVIR_S2_inpaint_places256.yml
  basicsr compare --import mypkg --methods mine=options/mine.yml options/test_SwinIR_x4.yml --sets datasets/my_photos
  basicsr compare --masks --methods telea big-lama.pth --sets photos:photos_centre/masks

Writes results.md, results.csv (every image), results.json, scatter.png, bars_SET.png, and SET.png with the crops on
which the methods disagree most. The same command continues where an interrupted one stopped, and other commands reuse
what they share with earlier ones in the same folder; results.jsonl and restored/ hold what is needed for that."""


def argument_parser():
    parser = command_parser('compare', __doc__, NOTES)
    parser.add_argument('--methods', nargs='+', required=True, metavar='[NAME=]METHOD',
                        help='what to compare, see below')
    parser.add_argument('--sets', nargs='+', required=True, metavar='[NAME=]SET', help='on which images, see below')
    parser.add_argument('--scale', type=int,
                        help='GT side over LQ side (default: that of the first method or set with a scale)')
    parser.add_argument('--masks', action='store_true', help='the second folder of a set holds masks; scale 1')
    parser.add_argument('-o', '--output', default='results/compare', metavar='FOLDER', help='default: %(default)s')
    parser.add_argument('--metrics', nargs='+', metavar='NAME', help='psnr_y ssim_y psnr_rgb ssim_rgb rmse sam '
                        'lpips_alex niqe, at scale 1 also hole_psnr hole_ssim lpips_vgg (default: all whose weights '
                        'are installed); over whole sets fid kid; the calculate_NAME of --import by its NAME')
    parser.add_argument('--input', nargs=3, type=int, metavar=('C', 'H', 'W'),
                        help='LQ size for FLOPs (default: that of the first image, or of a tile)')
    parser.add_argument('--tile', type=int, metavar='PIXELS', help='restore larger LQs in tiles of this side')
    parser.add_argument('--overlap', type=int, metavar='PIXELS',
                        help='overlap of tiles (default: 16, at most half a tile)')
    parser.add_argument('--self-ensemble', action='store_true',
                        help='average every method over eight flips and rotations, as in SwinIR+')
    parser.add_argument('--repeats', type=int, default=1, help='timed runs of every image (default: %(default)s)')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N (default: a GPU if there is one)')
    parser.add_argument('--crops', type=int, default=5, help='crops on a contact sheet (default: %(default)s)')
    parser.add_argument('--save-images', action='store_true', help='keep all restored images in restored/SET/METHOD, '
                        'also in later runs; otherwise only those of the contact sheets are kept; fid and kid need '
                        'and keep them all')
    add_imports(parser)
    parser.add_argument('--fresh', action='store_true', help='forget what earlier runs in this folder found')
    return parser
