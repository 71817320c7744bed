"""`basicsr compare`: compares methods on sets of images, as in the paper's Tables 3 and 4 and its figures."""
from functools import partial
from pathlib import Path

from tqdm import tqdm

from diffrwkvir_arch.device import choose_device
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.registration import import_users
from diffrwkvir_arch.tiling import checked_overlap
from diffrwkvir_arch.toolbox.arguments import add_imports, command_parser
from diffrwkvir_arch.toolbox.options import load_option_file

from .comparison.contest import Settings, contest
from .comparison.image_sets import parse_sets
from .comparison.journal import Journal
from .comparison.made_elsewhere import parse_folder
from .comparison.methods import NETWORKS, SCALE_MISSING, parse_method
from .comparison.names import OPTION_SUFFIXES, own_or_shipped, refuse_names, split_label, split_pair
from .comparison.plots import pictures_beside, write_plots
from .comparison.recognition import scale_of as scale_of_network
from .comparison.report import failure_lines, write_tables
from .comparison.scoring import applicable, choose_metrics, split_by_set, usable_metrics
from .comparison.sheets import write_sheet

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


def check(args):
    """Refuses numbers that cannot work; fills in the overlap of tiles."""
    for name in ('scale', 'repeats', 'crops'):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise InputError(f'--{name} must be at least 1, got {value}')
    if args.input and (args.input[0] != 3 or min(args.input) < 1):
        raise InputError(f'--input needs 3 H W, as LQs are RGB; got {" ".join(map(str, args.input))}')
    args.overlap = checked_overlap(args.tile, args.overlap)
    if args.masks and args.scale not in (None, 1):
        raise InputError(f'--masks: holes are filled at scale 1, --scale is {args.scale}')
    if Path(args.output).exists() and not Path(args.output).is_dir():
        raise InputError(f'--output: {args.output} is a file; give a folder')


def all_sets(texts, scale, masks):
    """The ImageSets of the arguments of --sets; one InputError tells all that cannot be used."""
    sets, refusals = [], []
    for text in texts:
        try:
            sets += parse_sets(text, scale, masks)
        except InputError as error:
            refusals.append(str(error))
    if refusals:
        raise InputError('; '.join(refusals))
    return sets


def scale_said(methods, sets):
    """The scale that the first of the Methods says, or else the first option file among the arguments of --sets."""
    unusable = None
    files = [split_pair(split_label(text, '--sets')[1])[0] for text in sets]
    # What else is wrong with a method is told of that method alone, later.
    ways = [method.scale if method.option_file is None or method.beside else partial(scale_of, method.option_file)
            for method in methods if method.has_network]
    ways += [partial(scale_of, file) for file in files if file.lower().endswith(OPTION_SUFFIXES)]
    # Slow, and seldom needed.
    ways += [partial(method.scale, scale_of_network) for method in methods
             if method.has_network and method.option_file is None]
    for way in ways:
        try:
            scale = way()
        except InputError as error:
            if str(unusable or SCALE_MISSING) == SCALE_MISSING:
                unusable = error
        else:
            if isinstance(scale, int):
                return scale
    raise unusable or InputError(SCALE_MISSING)


def scale_of(option_file):
    return load_option_file(own_or_shipped(option_file, '--methods')).get('scale')


def first_lq_size(sets, tile):
    """(h, w) of the first LQ, or of a tile of it; images too small for one are the failure of their set, later."""
    unusable = None
    for image_set, index in ((image_set, index) for image_set in sets for index in range(len(image_set))):
        sample = image_set.sample(index)
        try:
            height, width = sample.make_lq().shape[-2:]
        except InputError as error:
            unusable = unusable or error
        else:
            return (min(height, tile), min(width, tile)) if tile else (height, width)
    raise unusable


def remove_undrawn(results, drawn, settings):
    """Deletes restored images that no contact sheet shows and no run was to keep; they can be large."""
    for row in results.rows:
        if not row.get('keep') and row['image'] not in drawn.get(row['set'], ()):
            settings.restored_path(row['set'], row['method'], row['image']).unlink(missing_ok=True)


def main(arguments=None):
    """Runs the verb.

    Returns:
        int: 0, or 1 where a method failed.

    Raises:
        InputError: An argument or an image cannot be used.
        KeyboardInterrupt: With a message that says how to go on.
    """
    args = argument_parser().parse_args(arguments)
    check(args)
    import_users(args.imports)
    methods = [parse_folder(text) or parse_method(text) for text in args.methods]
    scale = 1 if args.masks else args.scale or scale_said(methods, args.sets)
    labels = [method.label for method in methods]
    refuse_names(labels, '--methods')
    sets = all_sets(args.sets, scale, args.masks)
    names = [image_set.name for image_set in sets]
    refuse_names(names, '--sets', pictures_beside(names))
    device = choose_device(args.device, '--device')
    has_masks = any(image_set.has_masks for image_set in sets)
    metrics, unusable = usable_metrics(applicable(choose_metrics(args.metrics, scale), has_masks))
    remarks = [f'{name} left out: {reason}' for name, reason in unusable.items()]
    for remark in remarks:
        print(remark, flush=True)
    if not metrics:
        raise InputError('--metrics: none of them can be measured here')
    out = Path(args.output)
    out.mkdir(parents=True, exist_ok=True)
    (out / 'failures.log').unlink(missing_ok=True)
    input_size = tuple(args.input[1:]) if args.input else first_lq_size(sets, args.tile)
    by_image, by_set = split_by_set(metrics)
    settings = Settings(scale, device, by_image, out, input_size, args.tile, args.overlap, args.repeats,
                        args.save_images or bool(by_set), by_set, args.self_ensemble)

    with tqdm(total=len(methods) * sum(map(len, sets)), unit='image') as bar:
        try:
            results = contest(methods, sets, settings, Journal(out / 'results.jsonl', args.fresh), bar)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f'{bar.n} of {bar.total} results are done and kept in {out}; the same command '
                                    'continues') from None
    print(write_tables(results, labels, sets, settings, remarks))
    written, drawn = ['results.md', *['results.csv'] * bool(results.rows), 'results.json'], {}
    for image_set in sets:
        drawn[image_set.name] = write_sheet(results, labels, image_set, settings, args.crops)
        finished = any(results.of(label, image_set.name) for label in labels)
        reason = 'restored images are missing, --save-images keeps them' if finished else 'no method finished it'
        written.append(f'{image_set.name}.png' if drawn[image_set.name] else
                       f'no contact sheet of {image_set.name}: {reason}')
    if not settings.save_images:
        remove_undrawn(results, drawn, settings)
    written += write_plots(results, labels, sets, settings)
    print(f'\n{len(results.rows)} results, {results.computed} of them computed now. {out}: {", ".join(written)}')
    for line in failure_lines(results):
        print(f'failed: {line}')
    return int(bool(results.failures))
