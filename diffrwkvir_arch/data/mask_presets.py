"""Masks drawn by the name of a preset: LaMa's evaluation masks and training mix, a box, the centre, the border.

LaMa's numbers are those of its option files (github.com/advimman/lama, configs/data_gen and configs/training/data):
pixels, meant for images with sides of 256 or 512.
"""
import hashlib
import random
from typing import Any, NamedTuple

import numpy as np

from diffrwkvir_arch.data.masks import border, box, boxes, centre, strokes
from diffrwkvir_arch.errors import InputError, did_you_mean
from diffrwkvir_arch.values import check_seed, is_number

# Draws before max_area is given up; LaMa's thickest masks need two at the mean.
TRIES = 200


class Preset(NamedTuple):
    """What is drawn: (weight, function of masks.py, its options) of each kind; max_area and size as DrawnMasks."""
    kinds: tuple
    max_area: float = 1.0
    size: Any = None


def lama(brush, rectangles=None, max_area=0.5):
    """LaMa's mix of a brush (count, length, width) and rectangles (weight over the brush's, count, side, margin)."""
    kinds = [(1, strokes, dict(zip(('count', 'length', 'width'), brush)))]
    if rectangles:
        kinds.append((rectangles[0], boxes, dict(zip(('count', 'side', 'margin'), rectangles[1:]))))
    return Preset(tuple(kinds), max_area)


def shape(draw, size):
    """A single shape; size: its default."""
    return Preset(((1, draw, {}), ), size=size)


PRESETS = {
    'lama_thin_256': lama(((4, 50), 40, 10)),
    'lama_medium_256': lama(((4, 5), 100, 50), (0.3, (1, 5), (10, 50), 0)),
    'lama_thick_256': lama(((1, 5), 200, 100), (0.3, (1, 3), (30, 150), 10)),
    'lama_thin_512': lama(((4, 70), 100, 20)),
    'lama_medium_512': lama(((4, 10), 200, 100), (0.3, (1, 5), (30, 150), 0)),
    'lama_thick_512': lama(((1, 5), 450, 250), (0.3, (1, 4), (30, 300), 10)),
    'lama_train_256': lama(((1, 5), 200, 100), (1, (1, 4), (30, 150), 10), max_area=1.0),
    'box': shape(box, 0.5),
    'centre': shape(centre, 0.5),
    'border': shape(border, 0.25),
}


class DrawnMasks:
    """Draws masks: at random in training; the same again for the same seed and file stem in validation.

    Args:
        option (str): Names the options in error messages.
        preset (str or list of str): Of PRESETS; of a list, one is drawn for each mask, all with the same chance.
        size (float): Of box and centre: the hole's sides over the image's; default 0.5. Of border: the hole's width on
            either side of the image, over the image's side; default 0.25.
        max_area (float): Masks that cover more of the image are drawn again. Default: the preset's own, 0.5 for LaMa's
            evaluation masks (its max_tamper_area), else 1.
        seed (int): Of the masks in validation; training follows manual_seed. Default: 0.
    """

    def __init__(self, option, preset, size=None, max_area=None, seed=0):
        self.option, self.seed, self.max_area = option, seed, max_area
        self.names = [preset] if isinstance(preset, str) else preset
        if not isinstance(self.names, list) or not self.names:
            raise InputError(f'{option}.preset must be a name or a list of names, got {preset!r}')
        for name in self.names:
            if name not in PRESETS:
                raise InputError(f"{option}.preset: unknown preset '{name}'{did_you_mean(name, PRESETS)}; choose from "
                                 f'{", ".join(PRESETS)}')
        self.size = size
        if size is not None:
            if any(PRESETS[name].size is None for name in self.names):
                raise InputError(f'{option}.size: only box, centre and border have a size')
            limit = 0.5 if 'border' in self.names else 1
            if not is_number(size) or not 0 < size < limit:
                raise InputError(f'{option}.size must be above 0 and below {limit}, got {size!r}')
        if max_area is not None and not (is_number(max_area) and 0 < max_area <= 1):
            raise InputError(f'{option}.max_area must be above 0 and at most 1, got {max_area!r}')
        check_seed(f'{option}.seed', seed)

    def at_random(self, height, width):
        """A mask (H, W) for training; follows `random`."""
        return self.draw(height, width, np.random.default_rng(random.getrandbits(64)))

    def of_stem(self, stem, height, width):
        """The mask (H, W) of a file stem."""
        return self.draw(height, width, self.generator(stem))

    def preset_of_stem(self, stem):
        """The name of the preset that the mask of a file stem is drawn by."""
        return self.choose(self.generator(stem))

    def generator(self, stem):
        number = int.from_bytes(hashlib.sha256(stem.encode()).digest()[:8], 'big')
        return np.random.default_rng([self.seed, number])

    def choose(self, rng):
        return self.names[rng.integers(len(self.names))]

    def draw(self, height, width, rng):
        """A mask (H, W) float32 with a hole, of no more than max_area."""
        name = self.choose(rng)
        preset = PRESETS[name]
        max_area = preset.max_area if self.max_area is None else self.max_area
        weights = np.array([weight for weight, *_ in preset.kinds])
        size = {} if preset.size is None else {'size': preset.size if self.size is None else self.size}
        for _ in range(TRIES):
            _, draw, options = preset.kinds[rng.choice(len(weights), p=weights / weights.sum())]
            mask = draw((height, width), rng, **options, **size)
            if 0 < mask.mean() <= max_area:
                return mask
        raise InputError(f'{self.option}: {TRIES} masks of {name} for an image of {width}x{height} were empty or '
                         f'covered more than max_area {max_area}; raise max_area, or use a thinner preset')
