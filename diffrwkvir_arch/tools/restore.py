"""`basicsr restore`: reads images, restores each as a whole or in tiles, and writes it with what came with it."""
import contextlib
import math
import os

import torch

from diffrwkvir_arch.bicubic import imresize
from diffrwkvir_arch.data.inpainting_dataset import FILL
from diffrwkvir_arch.device import choose_device, out_of_memory
from diffrwkvir_arch.errors import InputError, counted
from diffrwkvir_arch.registration import import_users
from diffrwkvir_arch.self_ensemble import SYMMETRIES, self_ensemble
from diffrwkvir_arch.tiling import checked_overlap
from diffrwkvir_arch.toolbox.logs import warn

from .arguments.restore import TILE_OF_LARGE, argument_parser
from .comparison.journal import key_of
from .comparison.methods import method_or_shipped
from .comparison.names import UNFIT
from .comparison.network import finished
from .comparison.recognition import scale_of
from .preparation.folders import open_folder
from .restoration import record
from .restoration.formats import refuse_unfit_format, writing
from .restoration.inputs import READABLE, find_images, masks_of
from .restoration.metadata import page_count
from .restoration.picture import Picture
from .restoration.progress import Progress
from .restoration.writer import Writer

# Whole, a megapixel takes 2 GB through DiffRWKVIR-tiny and 7 GB through the full network.
LARGE = 1024 ** 2
# A network sees about so far.
SMALL_TILE = 32


def check(args):
    """Refuses numbers and folders that cannot work; fills in the overlap of tiles."""
    if args.scale is not None and args.scale < 1:
        raise InputError(f'--scale must be at least 1, got {args.scale}')
    if args.outscale is not None and not 0 < args.outscale < math.inf:
        raise InputError(f'--outscale must be above 0, got {args.outscale}')
    if args.outscale and args.masks:
        raise InputError('--outscale: images with holes keep their size, and their known pixels')
    if args.tile is not None and args.tile < 0:
        raise InputError(f'--tile must be at least 1, or 0 for no tiles, got {args.tile}')
    args.overlap = checked_overlap(TILE_OF_LARGE if args.tile is None else args.tile or None, args.overlap)
    if args.tile and args.tile < SMALL_TILE:
        warn(f'--tile {args.tile}: tiles this small are slow, and their seams show; 128 is better')
    if args.recursive and args.masks:
        raise InputError('--recursive: masks lie in one folder and are matched by file name; restore folder by folder')
    if UNFIT.search(args.suffix):
        raise InputError(f"--suffix {args.suffix}: it cannot be part of a file's name")
    if args.output.exists() and not args.output.is_dir():
        raise InputError(f'-o: {args.output} is a file; give a folder')
    if args.output.suffix.lower() in READABLE and not args.output.is_dir():
        raise InputError(f'-o: {args.output} is called like an image; give the folder that results go to, and what '
                         'their names end in as --suffix and --format')


def tile_for(lq, mask, args):
    """The side of tiles for an LQ (1, 3, h, w), or None where it stays whole, as what fills a hole should see it."""
    if args.tile is not None:
        return args.tile or None
    return TILE_OF_LARGE if mask is None and lq.shape[-2] * lq.shape[-1] > LARGE else None


def restore(picture, restorer, mask, args, device, progress):
    """A Picture, restored by a Network or Classical -> what is written.

    Args:
        mask (ndarray | None): (H, W) float32, 1 in the hole; other pixels stay as they are.
        args (Namespace): Of the command: tile, overlap, self_ensemble, outscale.
        progress (Progress): Moves meanwhile.
    """
    lq = picture.to_batch(device)
    if mask is not None:
        if mask.shape != lq.shape[-2:]:
            raise InputError(f'its mask is {mask.shape[1]}x{mask.shape[0]}, the image {lq.shape[-1]}x{lq.shape[-2]}')
        mask = torch.from_numpy(mask)[None, None].to(device)
        # What the hole of a damaged image holds is not to be seen.
        lq = lq.masked_fill(mask > 0.5, FILL)

    tile = tile_for(lq, mask, args)
    calls = restorer.calls(lq, tile, args.overlap) * (len(SYMMETRIES) if args.self_ensemble else 1)
    size = picture.size_at(args.outscale or restorer.scale)
    after_call = progress.begin(picture.path, lq.shape[-2:], size, calls)

    def once(lq, mask):
        return restorer.restore(lq, mask=mask, tile=tile, overlap=args.overlap, after_call=after_call)

    restored = self_ensemble(once, lq, mask) if args.self_ensemble else once(lq, mask)
    restored = finished(restored, lq, mask)
    if args.outscale:
        restored = resized(restored, args.outscale / restorer.scale, size)
    return picture.like_this(restored)


def resized(image, scale, size):
    """(1, 3, h, w) -> (1, 3, *size) on the CPU, size about scale * (h, w), as MATLAB's bicubic does."""
    rows = imresize(image[0].float().permute(1, 2, 0).cpu().numpy(), scale)
    # MATLAB rounds a size up, and so may an error of the product do.
    return torch.from_numpy(rows[:size[0], :size[1]]).permute(2, 0, 1)[None]


def restore_file(path, target, read_mask, restorer, settings, args, device, progress, writer):
    """Restores an image file; -> None, or why it cannot be.

    Args:
        read_mask (callable): () -> mask, as restore takes it.
        settings (dict): As record_of takes them.
        writer (Writer): Writes it, perhaps later.
    """
    try:
        picture, mask = Picture(path), read_mask()
        refuse_unfit_format(picture, args.outscale or restorer.scale, args.format)
        if picture.said:
            progress.tell(path, f'its decoder says: {picture.said[0]}')
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=args.amp == 'bf16'):
            result = restore(picture, restorer, mask, args, device, progress)
    except InputError as error:
        return f'{path}: {error}' if str(path) not in str(error) else str(error)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return (f'{path}: too large for the memory of {device}; restore it alone, in tiles, --tile '
                f'{(args.tile or TILE_OF_LARGE) // 2}')
    target.parent.mkdir(parents=True, exist_ok=True)
    made_from = record.record_of(picture.content, mask, settings)
    pages = page_count(picture.content)
    if pages > 1:
        progress.tell(path, f'the first of its {pages} pages is restored, the others are passed over')
    writer.add(result.nbytes, writing(target, result, picture.content, made_from, args.format))
    return None


def there_already(images, targets, mask_of, settings, output):
    """The names of images whose results are there, made by these settings; InputError where one is there otherwise."""
    found = {}
    for name, target in targets.items():
        # An image or a mask that cannot be read is told later, beside those that are restored.
        with contextlib.suppress(OSError, InputError):
            if target.exists():
                here = record.record_of(images[name].read_bytes(), mask_of(name), settings)
                found[name] = record.read_record(target), here
    record.refuse_others({targets[name]: records for name, records in found.items()}, output)
    return list(found)


def loaded(method, scale, device, args):
    """The Network or Classical of a Method; InputError where it is none for images without GT, or for the masks."""
    restorer = method.load(scale, device)
    if restorer.reads_gt:
        raise InputError(f'-m {args.method}: it reads its prior from the GT, which is not there when images are '
                         'restored; use the second stage')
    if restorer.needs_mask and not args.masks:
        raise InputError(f'--masks is missing for {args.method}: {method.inpaints}')
    if args.masks and not restorer.needs_mask:
        raise InputError(f'--masks: {args.method} takes no masks')
    return restorer


def main(arguments=None):
    """Runs the verb.

    Returns:
        int: 0, or 1 where an image could not be restored.

    Raises:
        InputError: An argument cannot be used.
        KeyboardInterrupt: With a message that says how to go on.
    """
    args = argument_parser().parse_args(arguments)
    check(args)
    import_users(args.imports)
    ending = f'{args.suffix}.{args.format}'
    images, passed_over = find_images(args.images, args.recursive, args.output, ending)
    mask_of = masks_of(args.masks, images)
    targets = {name: args.output / f'{name}{ending}' for name in images}
    sources = {os.path.realpath(path): path for path in images.values()}
    for place in map(os.path.realpath, targets.values()):
        if place in sources:
            raise InputError(f'-o: {args.output} holds {sources[place]} itself, which would be replaced')
    device = choose_device(args.device, '--device')
    if args.masks and not args.method:
        raise InputError('-m is missing: no weights that fill holes come with the package')
    method = method_or_shipped(args.method, args.scale, args.outscale)
    # Holes are filled at scale 1.
    scale = args.scale or method.scale(find=(lambda path: 1) if args.masks else scale_of)
    settings = {'method': key_of(method.identity()), 'scale': scale,
                **{name: getattr(args, name) for name in ('outscale', 'tile', 'overlap', 'self_ensemble', 'amp')}}
    if passed_over:
        print(passed_over, flush=True)
    there = [] if args.force else there_already(images, targets, mask_of, settings, args.output)
    todo = [name for name in images if name not in there]
    failures = []
    if todo:
        restorer = loaded(method, scale, device, args)
        open_folder(args.output)
        try:
            with Progress(len(todo)) as progress, Writer(device) as writer:
                for name in todo:
                    failures.append(restore_file(images[name], targets[name], lambda: mask_of(name), restorer, settings,
                                                 args, device, progress, writer))
                    progress.end()
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f'interrupted; what is restored is in {args.output}; the same command '
                                    'continues') from None
    print(f'{args.output}: {counted(failures.count(None), "image")} restored'
          + (f', {len(there)} {"was" if len(there) == 1 else "were"} there already (--force restores anew)'
             if there else ''))
    for failure in filter(None, failures):
        print(f'failed: {failure}')
    return int(any(failures))
