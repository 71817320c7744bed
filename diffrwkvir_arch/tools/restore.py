"""`basicsr restore`: your own images through a trained network, without an option file for a dataset."""
import argparse
import os
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from diffrwkvir_arch.data.image_file import as_floats, decode_image, turned
from diffrwkvir_arch.data.inpainting_dataset import FILL
from diffrwkvir_arch.data.mask_folder import MaskFolder
from diffrwkvir_arch.data.pairing import list_images
from diffrwkvir_arch.device import choose_device, out_of_memory
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.self_ensemble import self_ensemble
from diffrwkvir_arch.tiling import checked_overlap

from .comparison.methods import NETWORKS, SHIPPED, finished, method_or_shipped
from .comparison.names import as_file_name
from .preparation.pieces import write_png

# Whole, a megapixel takes 2 GB through DiffRWKVIR-tiny and 7 GB through the full network.
LARGE, TILE_OF_LARGE = 1024 ** 2, 512

NOTES = f"""methods, as those of `basicsr compare`:
{NETWORKS}
  bicubic                 MATLAB-like enlargement
{SHIPPED}

examples:
  basicsr restore photo.png -o out/
  basicsr restore photo.png -m experiments/train_DiffRWKVIR_S2_x4/models/net_g_latest.pth
  basicsr restore holidays/ more/photo.jpg -m options/test_SwinIR_x4.yml -o enlarged --tile 256
  basicsr restore damaged/ --masks damaged_masks/ -m options/test_DiffRWKVIR_S2_inpaint_places256.yml

Writes FOLDER/NAME.png for every image: grey stays grey, 16 bits stay 16 bits, an alpha channel is enlarged bicubically
(beside grey it is written with three equal colours). A photograph is turned as its EXIF says.
What is there already is left as it is, so that the same command goes on where it was stopped. An image that cannot be
restored is told, and the others go on."""


def argument_parser():
    parser = argparse.ArgumentParser(prog='basicsr restore', description=__doc__, epilog=NOTES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='image files, and folders of them')
    parser.add_argument('-m', '--method', help='what restores them: below (default: what comes with the package)')
    parser.add_argument('-o', '--output', type=Path, default=Path('results/restored'), metavar='FOLDER',
                        help='default: %(default)s')
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
    parser.add_argument('--force', action='store_true', help='restore anew what is there already')
    return parser


def check(args):
    """Refuses numbers and folders that cannot work; fills in the overlap of tiles."""
    if args.scale is not None and args.scale < 1:
        raise InputError(f'--scale must be at least 1, got {args.scale}')
    args.overlap = checked_overlap(TILE_OF_LARGE if args.tile is None else args.tile or None, args.overlap)
    if args.output.exists() and not args.output.is_dir():
        raise InputError(f'-o: {args.output} is a file; give a folder')


def find_images(texts):
    """Stem -> path of every image that files and folders name.

    Raises:
        InputError: A path does not exist, a folder holds no images, or two images have one stem.
    """
    found = {}
    for place in (Path(text).expanduser() for text in texts):
        if not place.exists():
            raise InputError(f'{place} does not exist')
        paths = [place / name for name in list_images(str(place), 'images')] if place.is_dir() else [place]
        for path in paths:
            if path.stem in found:
                raise InputError(f'{found[path.stem]} and {path} would both become {path.stem}.png; rename one')
            found[path.stem] = path
    return found


def tile_for(lq, mask, args):
    """The side of tiles for an LQ (1, 3, h, w), or None where it stays whole, as what fills a hole should see it."""
    if args.tile is not None:
        return args.tile or None
    return TILE_OF_LARGE if mask is None and lq.shape[-2] * lq.shape[-1] > LARGE else None


class Picture:
    """An image file: its colours, and what the result shall have of it.

    Raises:
        InputError: It cannot be read.
    """

    def __init__(self, path):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f'{path}: {error.strerror}') from None
        self.colours = decode_image(content, str(path))    # (H, W, 3) RGB float32 in [0, 1]
        stored = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        self.white = 65535 if stored.dtype == np.uint16 else 255
        self.is_grey = stored.ndim == 2
        self.alpha = None
        if stored.ndim == 3 and stored.shape[2] == 4:
            # OpenCV turns colours alone as EXIF says, and reads grey with alpha as equal colours with alpha.
            stored = turned(stored, content)
            bgr, self.alpha = stored[..., :3], stored[..., 3]
            self.colours, self.is_grey = as_floats(bgr), (bgr == bgr[..., :1]).all()

    def to_batch(self, device):
        """(1, 3, H, W) RGB float32 in [0, 1]."""
        return torch.from_numpy(self.colours.transpose(2, 0, 1))[None].to(device)

    def like_this(self, restored):
        """(1, 3, h, w) in [0, 1] -> what is written: BGR, or grey, with the alpha channel, in the file's depth."""
        image = restored[0].float().clamp(0, 1).permute(1, 2, 0).cpu().numpy()
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY if self.is_grey else cv2.COLOR_RGB2BGR)
        image = (image * self.white).round().astype(np.uint16 if self.white > 255 else np.uint8)
        if self.alpha is None:
            return image
        if self.is_grey:
            image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)    # OpenCV writes no alpha beside grey
        height, width = image.shape[:2]
        return np.dstack([image, cv2.resize(self.alpha, (width, height), interpolation=cv2.INTER_CUBIC)])


def restore(picture, restorer, mask, args, device):
    """A Picture, restored by a Network or Classical -> what is written.

    Args:
        mask (ndarray | None): (H, W) float32, 1 in the hole; other pixels stay as they are.
        args (Namespace): Of the command: tile, overlap, self_ensemble.
    """
    lq = picture.to_batch(device)
    if mask is not None:
        if mask.shape != lq.shape[-2:]:
            raise InputError(f'its mask is {mask.shape[1]}x{mask.shape[0]}, the image {lq.shape[-1]}x{lq.shape[-2]}')
        mask = torch.from_numpy(mask)[None, None].to(device)
        # What the hole of a damaged image holds is not to be seen.
        lq = lq.masked_fill(mask > 0.5, FILL)

    def once(lq, mask):
        return restorer.restore(lq, mask=mask, tile=tile_for(lq, mask, args), overlap=args.overlap)

    restored = self_ensemble(once, lq, mask) if args.self_ensemble else once(lq, mask)
    return picture.like_this(finished(restored, lq, mask))


def masks_of(folder, images):
    """Stem of every image -> its mask (H, W) when called, or None where no folder is given."""
    if folder is None:
        return lambda stem: None
    source = MaskFolder({'name': folder, 'dataroot_mask': folder})
    paths = dict(zip(images, source.pair([path.name for path in images.values()], must_use_all=False)))
    return lambda stem: source.read_mask(paths[stem])


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
    images = find_images(args.images)
    mask_of = masks_of(args.masks, images)
    targets = {stem: args.output / f'{as_file_name(stem)}.png' for stem in images}
    for stem, target in targets.items():
        if target.exists() and os.path.samefile(target, images[stem]):
            raise InputError(f'-o: {args.output} holds {images[stem]} itself, which would be replaced')
    there = [] if args.force else [stem for stem, target in targets.items() if target.exists()]
    todo = [stem for stem in images if stem not in there]
    device = choose_device(args.device, '--device')
    if args.masks and not args.method:
        raise InputError('-m is missing: no weights that fill holes come with the package')
    method = method_or_shipped(args.method, args.scale)
    scale = args.scale or method.scale()
    failures = []
    if todo:
        restorer = method.load(scale, device)
        if restorer.reads_gt:
            raise InputError(f'-m {args.method}: it reads its prior from the GT, which nobody has who restores; take '
                             'the second stage')
        if restorer.needs_mask and not args.masks:
            raise InputError(f'--masks is missing: {args.method} fills holes')
        if args.masks and not restorer.needs_mask:
            raise InputError(f'--masks: {args.method} takes no masks')
        args.output.mkdir(parents=True, exist_ok=True)
        try:
            for stem in tqdm(todo, desc='images', unit='image'):
                try:
                    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=args.amp == 'bf16'):
                        result = restore(Picture(images[stem]), restorer, mask_of(stem), args, device)
                except InputError as error:
                    failures.append(f'{images[stem]}: {error}' if str(images[stem]) not in str(error) else str(error))
                except (RuntimeError, MemoryError) as error:
                    if not out_of_memory(error):
                        raise
                    failures.append(f'{images[stem]}: too large for the memory of {device}; restore it in tiles, '
                                    f'--tile {(args.tile or TILE_OF_LARGE) // 2}')
                else:
                    write_png(targets[stem], result)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f'interrupted; what is restored is in {args.output}, the same command goes '
                                    'on') from None
    print(f'{args.output}: {len(todo) - len(failures)} images restored'
          + (f', {len(there)} were there already (--force restores them anew)' if there else ''))
    for failure in failures:
        print(f'failed: {failure}')
    return int(bool(failures))
