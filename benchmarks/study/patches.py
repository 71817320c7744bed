"""Training patches: pairs held in memory, from which (seed, iteration) alone says what a batch is.

No method can therefore see other patches than the next one, and a resumed run needs to know nothing but its iteration.
"""
import zlib

import numpy as np
import torch
from small_sr import photographs

from diffrwkvir_arch.data.degradations import build_degradations
from diffrwkvir_arch.draws import drawn_for
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.tools.demo import TRAIN, photograph
from diffrwkvir_arch.tools.pairs import write_pairs
from diffrwkvir_arch.tools.preparation.pieces import write_png
from diffrwkvir_arch.tools.scores import read_image

# A file that says, in a folder of pairs, that all of them are there, and what they were made from.
COMPLETE = 'complete'
# How LQs can be made; the first is that of the field's tables.
BICUBIC = 'bicubic'
DEGRADATIONS = (BICUBIC, 'real_esrgan')


def training_pairs(data, folder, scale, degradation=BICUBIC):
    """Reads the pairs of a study, after making them the first time.

    Args:
        data (Path | None): Folder of photographs, searched with its subfolders; None takes those of scikit-image.
        folder (Path): Keeps GT and LQ, as write_pairs makes them.
        scale (int): GT side over LQ side.
        degradation (str): What makes the LQs, of DEGRADATIONS; each photograph is degraded once, always alike.

    Returns:
        list of tuple: GT (H, W, 3) and LQ (H/scale, W/scale, 3), RGB uint8.

    Raises:
        InputError: There is no photograph, or the folder holds those of another `data` or degradation.
    """
    source = str(data.resolve()) if data else "scikit-image's photographs"
    if degradation != BICUBIC:
        source += f' ({degradation})'
    if (folder / COMPLETE).exists():
        before = (folder / COMPLETE).read_text(encoding='utf-8')
        if before != source:
            raise InputError(f'--out: {folder} holds pairs of {before}, not of {source}; give another --out')
    else:
        images = photographs(data) if data else {name: photograph(name) for name in (*TRAIN, 'motorcycle')}
        if not images:
            raise InputError(f'--data: {data} holds no photograph')
        write_pairs(images, folder, scale)
        if degradation != BICUBIC:
            degrade(folder, scale, degradation)
        (folder / COMPLETE).write_text(source, encoding='utf-8')
    return [tuple(np.ascontiguousarray(read_image(folder / kind / path.name)[..., ::-1]) for kind in ('GT', 'LQ'))
            for path in sorted((folder / 'GT').iterdir())]


def degrade(folder, scale, kind):
    """Replaces the LQs of a folder of pairs."""
    degradation, = build_degradations('--degradation', {'type': kind}, scale)
    for path in sorted((folder / 'GT').iterdir()):
        gt = read_image(path)[..., ::-1].astype(np.float32) / 255
        with drawn_for(0, path.stem):
            lq = degradation(gt)[..., ::-1]
        write_png(folder / 'LQ' / path.name, (lq * 255).round().astype(np.uint8))


class Patches:
    """Random crops, flipped and turned, in batches.

    Args:
        pairs (list of tuple): GT and LQ, RGB uint8; those smaller than a patch are left out.
        batch (int): Patches of a batch.
        size (int): Side of an LQ patch.
        scale (int): GT side over LQ side.
    """

    def __init__(self, pairs, batch, size, scale):
        self.pairs = [pair for pair in pairs if min(pair[1].shape[:2]) >= size]
        if not self.pairs:
            raise InputError(f'--data: no photograph is {size * scale} pixels wide and high, the size of a patch')
        self.batch, self.size, self.scale = batch, size, scale
        self.checksum = 0
        for pair in self.pairs:
            for image in pair:
                self.checksum = zlib.crc32(image, self.checksum)

    def draw(self, seed, iteration):
        """The batch of an iteration, counted from 1.

        Returns:
            dict: lq (B, 3, size, size) and gt (B, 3, scale*size, scale*size), RGB float32 in [0, 1].
        """
        random = np.random.default_rng((seed, iteration))
        patches = {'lq': [], 'gt': []}
        for index in random.integers(len(self.pairs), size=self.batch):
            gt, lq = self.pairs[index]
            top, left = (random.integers(side - self.size + 1) for side in lq.shape[:2])
            flip_rows, flip_columns, turn = random.integers(2, size=3)
            for kind, image, factor in (('lq', lq, 1), ('gt', gt, self.scale)):
                side = self.size * factor
                patch = image[top * factor:top * factor + side, left * factor:left * factor + side]
                patch = patch[::-1] if flip_rows else patch
                patch = patch[:, ::-1] if flip_columns else patch
                patches[kind].append(patch.transpose(1, 0, 2) if turn else patch)
        return {kind: torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).astype(np.float32, order='C') / 255)
                for kind, images in patches.items()}


def checksum(batch, before):
    """Continues the CRC-32 `before` with a batch: equal for two runs that were fed the same."""
    return zlib.crc32(batch['gt'].numpy(), zlib.crc32(batch['lq'].numpy(), before))
