"""One GT image to the PNGs of a dataset: cropped, shrunk by MATLAB's bicubic, cut into sub-images.

Sub-images lie as BasicSR's extract_subimages.py cuts them, with the LR's at the same places as the GT's.
"""
import contextlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Optional

import cv2
import numpy as np

from diffrwkvir_arch.bicubic import imresize, imresize_once_rounded
from diffrwkvir_arch.data.image_file import has_alpha, is_cut_short
from diffrwkvir_arch.data.tiff_file import read_odd_tiff
from diffrwkvir_arch.errors import InputError

# Grey stays grey, 16 bits stay 16 bits, the alpha channel goes, a photo is turned as its EXIF says.
READ = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
# As BasicSR's LMDBs. Level 3, as its sub-images, takes 1.4 times as long for files 2 % smaller.
COMPRESSION = 1
# Bytes of a PNG's signature and header.
HEADER = 33


@dataclass(frozen=True)
class Recipe:
    """What is done to an image; all lengths in GT pixels.

    shrink: the GT is 1/shrink of the image. mod: GT sides are cropped to multiples of it. crop, step, thresh:
    sub-images of `crop` pixels every `step` pixels, and one flush with the border where more than `thresh` pixels would
    be left; crop None keeps images whole. im2double: round what is shrunk once, not after each pass.
    """
    shrink: int
    mod: int
    crop: Optional[int]
    step: int
    thresh: int
    im2double: bool

    def settings(self, scale):
        """What the files of one scale depend on, as JSON takes it."""
        settings = {'scale': scale, **asdict(self)}
        if self.crop is None:
            settings.update(step=None, thresh=None)
        if scale == self.shrink == 1:
            settings.update(im2double=None)
        return settings

    def windows(self, height, width):
        """(top, left, bottom, right) of every sub-image, row by row, in GT pixels."""
        if self.crop is None:
            return [(0, 0, height, width)]
        tops, lefts = (self.starts(side) for side in (height, width))
        return [(top, left, min(top + self.crop, height), min(left + self.crop, width))
                for top in tops for left in lefts]

    def starts(self, side):
        """Where sub-images begin along a side; at 0 alone where the side is shorter than one."""
        starts = list(range(0, side - self.crop + 1, self.step)) or [0]
        if side - (starts[-1] + self.crop) > self.thresh:
            starts.append(side - self.crop)
        return starts


def write_pieces(job, recipe):
    """Writes what an image gives to every target.

    Args:
        job (tuple): Path of the image, its stem, and the targets: list of (folder, scale), scale 1 for the GT.
        recipe (Recipe)

    Returns:
        dict: 'pieces', how many files each target got, and 'remarks' about the image; or 'failure', in one line.
    """
    path, stem, targets = job
    try:
        image, remarks = read_image(path)
        gt = shrunk(cropped(image, recipe.shrink * recipe.mod, path), recipe.shrink, recipe)
    except InputError as error:
        return {'failure': str(error)}
    if recipe.crop and min(gt.shape[:2]) < recipe.crop:
        remarks.append('smaller than a sub-image')
    return {'pieces': write_windows(gt, stem, targets, recipe), 'remarks': remarks}


def write_windows(gt, stem, targets, recipe):
    """Writes the sub-images of a GT, or all of it, to every target; -> how many each got."""
    windows = recipe.windows(*gt.shape[:2])
    for folder, scale in targets:
        image = shrunk(gt, scale, recipe)
        for name, (top, left, bottom, right) in zip(piece_names(stem, len(windows), recipe.crop), windows):
            write_png(Path(folder, name), image[top // scale:bottom // scale, left // scale:right // scale])
    return len(windows)


def cropped(image, multiple, path):
    """The image without the last rows and columns that make no multiple; InputError where nothing is left of it."""
    height, width = (side // multiple * multiple for side in image.shape[:2])
    if not (height and width):
        raise InputError(f'{path}: {image.shape[1]}x{image.shape[0]} is smaller than {multiple} pixels, to whose '
                         'multiple it would be cropped')
    return image[:height, :width]


def shrunk(image, scale, recipe):
    """1/scale of the image."""
    if scale == 1:
        return image
    return (imresize_once_rounded if recipe.im2double else imresize)(image, 1 / scale)


def piece_names(stem, count, is_cut):
    """The file names of an image's pieces."""
    return [f'{stem}_s{number:03d}.png' for number in range(1, count + 1)] if is_cut else [f'{stem}.png']


def read_image(path):
    """(H, W) or (H, W, 3) BGR, uint8 or uint16, and remarks; InputError where the file holds no such image."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f'{path}: cannot be read: {error.strerror}') from None
    if not content:
        raise InputError(f'{path}: the image file is empty (0 bytes)')
    image = stored = read_odd_tiff(content, str(path))
    if stored is not None and stored.ndim == 3:
        image = stored[..., :3]
    elif stored is None and not is_cut_short(content):
        with contextlib.suppress(cv2.error):
            image = cv2.imdecode(np.frombuffer(content, np.uint8), READ)
    if image is None:
        raise InputError(f'{path}: not an image, or a damaged one')
    if image.dtype not in (np.uint8, np.uint16):
        raise InputError(f'{path}: pixels of type {image.dtype} are not supported; convert it to 8 or 16 bits')
    drops_alpha = has_alpha(content) or stored is not None and stored.shape[2:] == (4, )
    facts = {'grey': image.ndim == 2, '16 bits': image.dtype == np.uint16, 'alpha dropped': drops_alpha}
    return image, [remark for remark, holds in facts.items() if holds]


def write_png(path, image, chunks=()):
    """Writes a PNG that is there whole or not at all; `chunks` (bytes) go between its header and its pixels."""
    png = cv2.imencode('.png', image, [cv2.IMWRITE_PNG_COMPRESSION, COMPRESSION])[1]
    write_whole(path, (png[:HEADER], *chunks, png[HEADER:]))


def write_whole(path, parts):
    """Writes a file of these parts (bytes) that is there whole or not at all."""
    partial = path.with_name(f'.{path.name}.partial')
    try:
        with partial.open('wb') as file:
            file.writelines(parts)
        os.replace(partial, path)
    except BaseException as error:    # a full disk, Ctrl-C
        with contextlib.suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError):    # of a full disk, Python tells no name
            error.filename = error.filename or str(path)
        raise
