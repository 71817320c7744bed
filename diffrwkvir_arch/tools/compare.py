"""`basicsr compare`: from methods and sets to scores, tables and pictures."""
from functools import partial
from pathlib import Path

from tqdm import tqdm

from diffrwkvir_arch.device import choose_device
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.registration import import_users
from diffrwkvir_arch.tiling import checked_overlap
from diffrwkvir_arch.toolbox.options import load_option_file

from .arguments.compare import argument_parser
from .comparison.contest import Settings, contest
from .comparison.image_sets import parse_sets
from .comparison.journal import Journal
from .comparison.made_elsewhere import parse_folder
from .comparison.methods import SCALE_MISSING, parse_method
from .comparison.names import OPTION_SUFFIXES, own_or_shipped, refuse_names, split_label, split_pair
from .comparison.plots import pictures_beside, write_plots
from .comparison.recognition import scale_of as scale_of_network
from .comparison.report import failure_lines, write_tables
from .comparison.scoring import applicable, choose_metrics, split_by_set, usable_metrics
from .comparison.sheets import write_sheet


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
