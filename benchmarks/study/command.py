"""The command line that the equal-budget study and the ablations share."""
import argparse
import logging
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from basicsr.utils import get_root_logger

from diffrwkvir_arch.allocator import keep_freed_memory
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.tools.comparison.image_sets import parse_sets

from .campaign import Study
from .methods import SCALE
from .patches import BICUBIC, DEGRADATIONS, Patches, training_pairs
from .planning import BUDGETS
from .scoring import load_images


class Preset(NamedTuple):
    """Patches of a batch, side of an LQ patch, hours."""
    batch: int
    patch: int
    hours: float


# gpu is meant for one H200.
PRESETS = {'cpu': Preset(8, 24, 2.), 'gpu': Preset(32, 48, 0.4)}


def arguments(description, known, budgets, out):
    """The parser of a study.

    Args:
        description (str): The script's docstring.
        known (dict): Its methods.
        budgets (list of str): Which tables it makes unless told.
        out (str): Where its results go unless told.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, metavar='DIR',
                        help='photographs to train on, searched with subfolders and held in memory (default: those of '
                        'scikit-image)')
    parser.add_argument('--sets', nargs='+', metavar='GT[:LQ]',
                        help='folders to test on, also as NAME=GT[:LQ], or option files; curves are drawn on the first '
                        '(default: two photographs of scikit-image that are not trained on)')
    parser.add_argument('--degradation', choices=DEGRADATIONS, default=BICUBIC,
                        help='what makes the LQs of training; sets to test on so are those of an option file, --sets '
                        'FILE.yml (default: %(default)s)')
    parser.add_argument('--methods', nargs='+', metavar='NAME', help=f'some of: {", ".join(known)} (default: all)')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='default: 0 1 2')
    parser.add_argument('--budgets', nargs='+', choices=BUDGETS, default=budgets,
                        help=f'what is equal, a table each (default: {" ".join(budgets)})')
    parser.add_argument('--scale', choices=PRESETS, default='cpu',
                        help='; '.join(f'{name}: {preset.batch} patches of {preset.patch}x{preset.patch} LQ pixels, '
                                       f'{preset.hours:g} hours' for name, preset in PRESETS.items())
                        + ' (default: %(default)s); gpu needs a CUDA device')
    parser.add_argument('--iterations', type=int, help='of each run (default: as many as fit into --hours)')
    parser.add_argument('--hours', type=float, help='for the whole study (default: that of --scale)')
    parser.add_argument('--stage1-share', type=float, default=0.3,
                        help='part of the budget that goes to the first of two stages (default: %(default)s)')
    parser.add_argument('--learning-rate', type=float, default=1e-3, help='of every method (default: %(default)s)')
    parser.add_argument('--report-only', action='store_true',
                        help='train nothing, report on the runs that are finished')
    parser.add_argument('--threads', type=int, help="PyTorch's on the CPU")
    parser.add_argument('--out', type=Path, default=Path(out), help='default: %(default)s')
    return parser


def study_of(args, methods, larger, tolerance):
    """The Study that the arguments describe; prepares its images.

    Args:
        args (Namespace): Of the parser above.
        methods, larger, tolerance: See Study.

    Raises:
        InputError: An argument cannot be used.
    """
    preset = PRESETS[args.scale]
    if args.scale == 'gpu' and not torch.cuda.is_available():
        raise InputError('--scale gpu needs a CUDA device, and PyTorch sees none here')
    if args.iterations is not None and args.iterations < 2:
        raise InputError(f'--iterations must be at least 2, one for each of two stages, got {args.iterations}')
    if args.hours is not None and args.iterations is not None:
        raise InputError('--hours and --iterations say the same twice; give one of them')
    if args.hours is not None and args.hours <= 0:
        raise InputError(f'--hours must be above 0, got {args.hours:g}')
    if args.threads is not None and args.threads < 1:
        raise InputError(f'--threads must be at least 1, got {args.threads}')
    if len(set(args.seeds)) < len(args.seeds):
        raise InputError(f'--seeds: one comes twice in {" ".join(map(str, args.seeds))}')
    if not 0 < args.stage1_share < 1:
        raise InputError(f'--stage1-share must be between 0 and 1, got {args.stage1_share}')
    if args.data and not args.data.is_dir():
        raise InputError(f'--data: {args.data} is not a folder')
    if args.threads:
        torch.set_num_threads(args.threads)
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    images = load_images(args.sets, out / 'held_out')
    if args.data:
        refuse_leak(args.data, args.sets or ())
    pairs = training_pairs(args.data, out / 'train', SCALE, args.degradation)
    hours = None if args.iterations else args.hours or preset.hours
    return Study(
        methods=methods, larger=larger, tolerance=tolerance, seeds=args.seeds, budgets=args.budgets,
        iterations=args.iterations, hours=hours, stage1_share=args.stage1_share, learning_rate=args.learning_rate,
        patches=Patches(pairs, preset.batch, preset.patch, SCALE), degradation=args.degradation, images=images,
        device=torch.device('cuda' if args.scale == 'gpu' else 'cpu'), out=out, report_only=args.report_only)


def refuse_leak(data, sets):
    """Raises InputError where a test set lies in the folder that is trained on, which is searched with subfolders."""
    for image_set in (image_set for text in sets for image_set in parse_sets(text, SCALE)):
        # A set of GT alone is read as what others call LQ.
        roots = image_set.dataset.roots
        gt = Path(roots.get('gt', roots.get('lq'))).resolve()
        if data.resolve() in (gt, *gt.parents):
            raise InputError(f'--data: {data} holds the test set {gt}; give the folder of the training photographs '
                             'alone')


def complain(main):
    """Runs a script's main; what the user can put right is told in one line. -> exit code."""
    # Every model that is built would print its network.
    get_root_logger(log_level=logging.WARNING)
    keep_freed_memory()
    try:
        return main()
    except InputError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
