"""`basicsr masks`: draws the masks and writes them with a manifest and a preview."""
import shutil
from pathlib import Path

import numpy as np
from basicsr.utils import tensor2img
from tqdm import tqdm

from diffrwkvir_arch.data.inpainting_dataset import InpaintingDataset
from diffrwkvir_arch.errors import InputError, counted

from .arguments.masks import argument_parser
from .pictures import LABEL, MARGIN, panel
from .preparation.pieces import write_png
from .scores import write_csv

PREVIEWS, COLUMNS, PANEL = 24, 6, 160
UNFINISHED = '.unfinished'


def write_masks(dataset, folder):
    """Writes the mask of every image; -> list of (file name, preset, height, width, area)."""
    folder.mkdir()
    written = []
    for item in tqdm(dataset, desc='masks', unit='image', disable=None):
        hole = item['mask'][0].numpy()
        stem = dataset.stem(item['lq_path'])
        path = folder / f'{stem}.png'
        if path.exists():
            raise InputError(f'{item["lq_path"]}: another image has the stem {stem} too, and masks are named by stems')
        write_png(path, (hole * 255).astype(np.uint8))
        written.append((path.name, dataset.masks.preset_of_stem(stem), *hole.shape, float(hole.mean())))
    return written


def preview(dataset, written):
    """A sheet of images spread evenly over the set, their holes grey, with name and area of the mask below."""
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(PREVIEWS, len(dataset))).round().astype(int))
    panels = []
    for index in chosen:
        name, _, height, width, area = written[index]
        image = panel(tensor2img(dataset[index]['lq']), f'{area:.0%} {Path(name).stem}'[:18],
                      PANEL * height // max(height, width) or 1)[:, :PANEL]
        spare = PANEL + LABEL - image.shape[0], PANEL - image.shape[1]
        panels.append(np.pad(image, (*((0, side + MARGIN) for side in spare), (0, 0)), constant_values=255))
    columns = min(COLUMNS, len(panels))
    panels += [np.full_like(panels[0], 255)] * (-len(panels) % columns)
    return np.vstack([np.hstack(panels[i:i + columns]) for i in range(0, len(panels), columns)])


def main(arguments=None):
    """Runs the verb.

    Raises:
        InputError: An argument cannot be used, or an image cannot be read.
    """
    args = argument_parser().parse_args(arguments)
    unfinished = args.out / UNFINISHED
    if args.out.exists() and not args.out.is_dir() or args.out.is_dir() and any(args.out.iterdir()) and (
            not unfinished.exists()):
        raise InputError(f'-o {args.out}: exists and is not empty; give another folder, so that no two sets mix')
    mask = {'preset': args.preset, 'seed': args.seed, 'size': args.size, 'max_area': args.max_area}
    dataset = InpaintingDataset({'name': str(args.images), 'phase': 'test', 'dataroot_lq': str(args.images),
                                 'mask': mask})
    args.out.mkdir(parents=True, exist_ok=True)
    unfinished.touch()
    shutil.rmtree(args.out / 'masks', ignore_errors=True)
    written = write_masks(dataset, args.out / 'masks')
    write_csv([{'mask': name, **mask, 'preset': preset, 'width': width, 'height': height, 'area': area}
               for name, preset, height, width, area in written], args.out / 'manifest.csv')
    write_png(args.out / 'preview.png', preview(dataset, written))
    unfinished.unlink()
    areas = [area for *_, area in written]
    print(f'{counted(len(written), "mask")} of {" ".join(args.preset)}, seed {args.seed}: area '
          f'{np.mean(areas):.1%} at the mean, {min(areas):.1%} to {max(areas):.1%}\n'
          f'{args.out / "masks"}: an option file reads it as dataroot_mask')
