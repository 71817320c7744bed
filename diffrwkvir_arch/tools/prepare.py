"""`basicsr prepare`: makes the sub-images, LRs, lists and LMDBs that option files name from folders of GT images."""
import math
import os
from pathlib import Path

from diffrwkvir_arch.errors import InputError, counted
from diffrwkvir_arch.registration import import_users
from diffrwkvir_arch.toolbox.arguments import add_imports, command_parser

from .preparation.check import check_datasets_of
from .preparation.folders import Target, make_folders, open_folder, shown
from .preparation.lmdbs import describe, make_lmdb, write_lines
from .preparation.pieces import Recipe
from .preparation.sources import digest_of, find_sources

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


def checked(args):
    """Refuses arguments that cannot work; -> Recipe."""
    if not args.folders:
        raise InputError('which images? Give folders of GT: basicsr prepare DIV2K_train_HR -o datasets/DIV2K ...')
    if not args.output:
        raise InputError('-o is missing: where the dataset goes, such as -o datasets/DF2K')
    if args.test and (args.sub or not args.scales):
        raise InputError('--test keeps images whole; remove --sub' if args.sub else
                         '--test needs --scales, such as --scales 2 3 4')
    if min(args.scales, default=2) < 2:
        raise InputError(f'--scales must be at least 2, got {min(args.scales)}')
    for option, least in {'crop_size': 1, 'step': 1, 'thresh_size': 0, 'mod': 1, 'shrink': 1}.items():
        value = getattr(args, option)
        if value is not None and value < least:
            raise InputError(f'--{option.replace("_", "-")} must be at least {least}, got {value}')
    mod = args.mod or (math.lcm(12, *args.scales) if args.scales else 1)
    shared = math.lcm(*args.scales)
    if mod % shared:
        raise InputError(f'--mod must be a multiple of {shared} for these scales, got {mod}')
    for option, value in (('crop-size', args.crop_size), ('step', args.step)):
        if args.sub and value % shared:
            raise InputError(f'--{option} must be a multiple of {shared}, so that LR sub-images pair with the GT, got '
                             f'{value}')
    return Recipe(args.shrink, mod, args.crop_size if args.sub else None, args.step, args.thresh_size, args.im2double)


def folder_paths(out, recipe, scales, test):
    """Scale -> its folder; scale 1 is the GT."""
    if test:
        return {1: out / f'GTmod{recipe.mod}', **{scale: out / f'LRbicx{scale}' for scale in scales}}
    if not scales:
        return {1: out}
    sub = '_sub' if recipe.crop else ''
    return {1: out / f'{out.name}_HR{sub}', **{scale: out / f'{out.name}_bicx{scale}{sub}' for scale in scales}}


def refuse_overlap(folders, targets, recursive):
    """Raises InputError where a source would be replaced, or an output be taken for a source."""
    for folder in folders:
        place = Path(folder).expanduser().resolve()
        for path in (target.path.resolve() for target in targets):
            if path in (place, *place.parents):
                raise InputError(f'{folder} would be replaced by the output of the same name; give another -o')
            if recursive and place in path.parents:
                raise InputError(f'-o: with --recursive the output must not lie in {folder}')


def make_dataset(args, recipe):
    """Makes what the arguments ask for and is not there."""
    out = Path(os.path.abspath(os.path.expanduser(args.output)))
    paths = folder_paths(out, recipe, sorted(set(args.scales)), args.test)
    folders = [Target(path, recipe.settings(scale)) for scale, path in paths.items()]
    beside = [Target(Path(f'{folder.path}.lmdb'), folder.settings) for folder in folders]
    lmdbs = beside if args.lmdb else []
    refuse_overlap(args.folders, folders, args.recursive)
    sources = find_sources(args.folders, args.recursive)
    digest = digest_of(sources)
    missing = [target for target in folders + lmdbs if not target.is_there(digest, args.force)]
    if missing:
        open_folder(missing[0].unfinished.parent)
    remarks = {}
    if new := [target for target in folders if target in missing]:
        remarks = make_folders(new, sources, digest, recipe, args.workers)
    for folder, target in zip(folders, beside):
        if folder in new:
            # Interrupted, it may be of other images.
            target.forget_unfinished()
        if target in missing:
            make_lmdb(folder.path, target, digest)
    gt = folders[0]
    meta_info = gt.path.parent / f'meta_info_{gt.path.name}.txt'
    if not args.test and (args.force or gt in missing or not meta_info.exists()):
        write_lines(meta_info, describe(gt.path))
    for target in folders + lmdbs:
        print(f'{shown(target.path)}: {"made" if target in missing else "was there already"}')
    print(counted(len(sources), 'image') + ''.join(f', {count} {remark}' for remark, count in sorted(remarks.items())))


def main(arguments=None):
    """Runs the verb.

    Returns:
        int: 0.

    Raises:
        InputError: An argument, an image or an option file cannot be used, or a dataset has faults.
        KeyboardInterrupt: With a message that says how to go on.
    """
    args = argument_parser().parse_args(arguments)
    if args.workers < 1:
        raise InputError(f'--workers must be at least 1, got {args.workers}')
    import_users(args.imports)
    if args.check:
        if args.folders or args.output:
            raise InputError('--check takes option files alone; remove the folders and -o')
        check_datasets_of(args.check, args.workers)
        return 0
    recipe = checked(args)
    try:
        make_dataset(args, recipe)
    except KeyboardInterrupt:
        raise KeyboardInterrupt('interrupted; the same command continues from here') from None
    return 0
