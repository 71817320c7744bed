"""Test images in memory, and PSNR and SSIM on Y of what a model makes of them."""
import zlib
from typing import NamedTuple

import numpy as np
import torch
from basicsr.utils import tensor2img

from diffrwkvir_arch.bicubic import imresize_once_rounded
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.tools.comparison.image_sets import parse_sets
from diffrwkvir_arch.tools.demo import HELD_OUT, photograph
from diffrwkvir_arch.tools.pairs import write_pairs
from diffrwkvir_arch.tools.scores import score

from .methods import SCALE
from .patches import COMPLETE


class HeldOutImage(NamedTuple):
    """lq (1, 3, h, w) RGB float32 in [0, 1]; gt BGR uint8 (scale*h, scale*w, 3)."""
    set: str
    name: str
    lq: torch.Tensor
    gt: np.ndarray


def load_images(texts, folder):
    """Reads all test sets.

    Args:
        texts (list of str | None): Values of --sets, GT:LQ or GT, also as NAME=...; None for scikit-image's photographs
            that training leaves out.
        folder (Path): Keeps the pairs of those.

    Returns:
        list of HeldOutImage: Set after set.

    Raises:
        InputError: A set cannot be read.
    """
    if texts is None:
        if not (folder / COMPLETE).exists():
            write_pairs({name: photograph(name) for name in HELD_OUT}, folder, SCALE)
            (folder / COMPLETE).touch()
        texts = [f'held_out={folder / "GT"}']
    images = []
    for image_set in (image_set for text in texts for image_set in parse_sets(text, SCALE)):
        for index in range(len(image_set)):
            sample = image_set.sample(index)
            if sample.gt is None:
                raise InputError(f'--sets: {image_set.name} has no GT to compare with')
            images.append(HeldOutImage(image_set.name, sample.name, sample.lq_batch('cpu').contiguous(),
                                       np.ascontiguousarray(sample.gt)))
    return images


def checksum(images):
    """CRC-32 of LQ and GT of all test images."""
    crc = 0
    for image in images:
        crc = zlib.crc32(image.gt, zlib.crc32(image.lq.numpy(), crc))
    return crc


def model_rows(model, images):
    """Restores and scores images; -> rows of set, image, psnr_y and ssim_y.

    DiffIR draws noise when it restores. It is the same for every model and every time, and training goes on as if
    nothing had been drawn.
    """
    rows = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for image in images:
            model.feed_data({'lq': image.lq})
            model.test()
            rows.append(row(image, tensor2img([model.output])))
    return rows


def bicubic_rows(images):
    """The same for bicubic enlargement, the floor of every table."""
    return [row(image, imresize_once_rounded(tensor2img([image.lq]), SCALE)) for image in images]


def row(image, restored):
    return {'set': image.set, 'image': image.name, **score(restored, image.gt, SCALE)}


def first_set(images):
    """The images of the first set, on which curves are drawn."""
    return [image for image in images if image.set == images[0].set]
