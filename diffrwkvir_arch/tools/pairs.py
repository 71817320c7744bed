"""LQ/GT pairs from photographs, as folders and LMDBs."""
import shutil
from pathlib import Path

from tqdm import tqdm

from diffrwkvir_arch.bicubic import imresize_once_rounded

from .preparation.folders import Target
from .preparation.lmdbs import make_lmdb
from .preparation.pieces import write_png


def sub_images(image, size, step):
    """Square crops of `size` pixels every `step` pixels, the last flush with the border; a smaller image whole."""
    height, width = image.shape[:2]
    tops, lefts = (sorted({*range(0, side - size, step), max(side - size, 0)}) for side in (height, width))
    return [image[top:top + size, left:left + size] for top in tops for left in lefts]


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
    for name, image in tqdm(images.items(), desc=f'pairs for {folder.name}', unit='image'):
        height, width = (side // scale * scale for side in image.shape[:2])
        gt = image[:height, :width]
        lq = imresize_once_rounded(gt, 1 / scale)
        if crop is None:
            pieces = [(name, gt, lq)]
        else:
            size, step = crop
            pieces = [(f'{name}_s{i:03d}', *pair) for i, pair in enumerate(zip(
                sub_images(gt, size, step), sub_images(lq, size // scale, step // scale)), start=1)]
        for stem, gt_piece, lq_piece in pieces:
            write_png(folder / 'GT' / f'{stem}.png', gt_piece)
            write_png(folder / 'LQ' / f'{stem}.png', lq_piece)


def write_lmdb(folder):
    """FOLDER of PNGs -> FOLDER.lmdb in BasicSR's format, made anew."""
    target = Target(Path(f'{folder}.lmdb'), {})
    target.forget_unfinished()
    make_lmdb(folder, target, digest='')
