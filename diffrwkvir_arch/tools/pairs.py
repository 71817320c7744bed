"""LQ/GT pairs from photographs, as folders and LMDBs."""
import shutil
from pathlib import Path

from tqdm import tqdm

from .preparation.folders import Target
from .preparation.lmdbs import make_lmdb
from .preparation.pieces import Recipe, cropped, write_windows


def write_pairs(images, folder, scale, crop=None):
    """Writes folder/GT/NAME.png and folder/LQ/NAME.png.

    Args:
        images (dict[str, ndarray]): Name -> BGR uint8 (H, W, 3).
        folder (Path): Where GT and LQ are made anew.
        scale (int): GT side over LQ side; the GT is cropped to a multiple of it.
        crop (tuple[int, int] | None): (size, step) of sub-images in GT pixels; None keeps the images whole.
    """
    for kind in ('GT', 'LQ'):
        shutil.rmtree(folder / kind, ignore_errors=True)
        (folder / kind).mkdir(parents=True)
    size, step = crop or (None, None)
    recipe = Recipe(shrink=1, mod=scale, crop=size, step=step, thresh=0, im2double=True)
    for name, image in tqdm(images.items(), desc=f'pairs for {folder.name}', unit='image'):
        write_windows(cropped(image, scale, name), name, [(folder / 'GT', 1), (folder / 'LQ', scale)], recipe)


def write_lmdb(folder):
    """FOLDER of PNGs -> FOLDER.lmdb in BasicSR's format, made anew."""
    target = Target(Path(f'{folder}.lmdb'), {})
    target.forget_unfinished()
    make_lmdb(folder, target, digest='')
