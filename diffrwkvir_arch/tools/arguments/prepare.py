"""`basicsr prepare`: makes the sub-images, LRs, lists and LMDBs that option files name from folders of GT images."""
import os

from diffrwkvir_arch.toolbox.arguments import add_imports, command_parser

NOTES = """makes, for -o datasets/DF2K:
  --sub --scales 2 4         DF2K_HR_sub, DF2K_bicx2_sub, DF2K_bicx4_sub, meta_info_DF2K_HR_sub.txt
  --scales 4                 the same from whole images: DF2K_HR, DF2K_bicx4
  --test --scales 2 3 4      GTmod12, LRbicx2, LRbicx3, LRbicx4
  no scales                  only the GT, in OUT itself, for inpainting and other tasks at scale 1
  --lmdb                     NAME.lmdb beside each NAME

examples:
  basicsr prepare DIV2K_train_HR Flickr2K_HR -o datasets/DF2K --sub --scales 2 3 4 --lmdb
  basicsr prepare Set5/HR -o datasets/Set5 --test --scales 2 3 4
  basicsr prepare CelebA-HQ-1024/train -o datasets/CelebA-HQ/train_256 --shrink 4
  basicsr prepare --check options/train_DiffRWKVIR_S1_x4.yml

The LRs equal those of MATLAB's imresize(image, 1/scale) bit for bit. A folder appears only when it is complete; until
then it grows in OUT/.prepare, and the same command continues after an interrupt. Existing output is kept, so that
scales can be added later."""


def argument_parser():
    parser = command_parser('prepare', __doc__, NOTES)
    parser.add_argument('folders', nargs='*', metavar='FOLDER', help='folders of GT images: PNG, JPEG and others')
    parser.add_argument('-o', '--output', metavar='OUT', help='folder of the dataset, such as datasets/DF2K')
    parser.add_argument('--scales', nargs='+', type=int, default=[], metavar='N', help='make LRs at 1/N of the size')
    parser.add_argument('--sub', action='store_true', help='cut sub-images, which load faster than whole 2K images')
    parser.add_argument('--test', action='store_true', help='whole images, in folders named as for test sets')
    parser.add_argument('--lmdb', action='store_true', help='also make LMDBs')
    parser.add_argument('--crop-size', type=int, default=480, metavar='PIXELS', help='side of a sub-image '
                        '(default: %(default)s)')
    parser.add_argument('--step', type=int, default=240, metavar='PIXELS',
                        help='distance from one sub-image to the next (default: %(default)s)')
    parser.add_argument('--thresh-size', type=int, default=0, metavar='PIXELS', help='leave out a remainder at the '
                        'end of a side that is not wider than this (default: %(default)s)')
    parser.add_argument('--mod', type=int, metavar='N', help='crop GT sides to multiples of N (default: 12, or the '
                        'next multiple that the scales share; 1 without scales)')
    parser.add_argument('--shrink', type=int, default=1, metavar='N', help='shrink the images to 1/N to make the GT')
    parser.add_argument('--im2double', action='store_true', help="round the LR once, as BasicSR's "
                        'generate_bicubic_img.m does, not after each pass')
    parser.add_argument('--recursive', action='store_true', help='include subfolders; sub/a.png becomes sub_a.png')
    parser.add_argument('--workers', type=int, default=cores(), metavar='N', help='processes (default: %(default)s)')
    parser.add_argument('--force', action='store_true', help='make everything anew and replace existing output')
    add_imports(parser)
    parser.add_argument('--check', nargs='+', default=[], metavar='FILE.yml', help='instead of making anything, read '
                        'every image of the datasets of option files, and report what does not pair, fit or open')
    return parser


def cores():
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
