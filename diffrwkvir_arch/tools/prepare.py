"""`basicsr prepare`: which folders and LMDBs are missing, and how each is made."""
import math
import os
from pathlib import Path

from diffrwkvir_arch.errors import InputError, counted
from diffrwkvir_arch.registration import import_users

from .arguments.prepare import argument_parser
from .preparation.check import check_datasets_of
from .preparation.folders import Target, make_folders, open_folder, shown
from .preparation.lmdbs import describe, make_lmdb, write_lines
from .preparation.pieces import Recipe
from .preparation.sources import digest_of, find_sources


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
