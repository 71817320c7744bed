"""What methods are compared on: folders of GT with LQ or masks or alone, the datasets of an option file."""
import hashlib
import math
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np
import torch
import yaml
from basicsr.utils import img2tensor, tensor2img

from diffrwkvir_arch.bicubic import imresize_once_rounded
from diffrwkvir_arch.data.pairing import fitting_template, is_lmdb, list_images
from diffrwkvir_arch.errors import InputError, telling
from diffrwkvir_arch.option_datasets import check_dataset, check_places, expanded_places
from diffrwkvir_arch.option_sections import look_up, require
from diffrwkvir_arch.toolbox.logs import warn
from diffrwkvir_arch.toolbox.options import load_option_file

from .names import OPTION_SUFFIXES, as_file_name, own_or_shipped, split_label, split_pair

# Options under which a dataset's images are neither RGB in [0, 1] nor grey, and the one value that leaves them so; of
# luma, `color: y`, psnr_y would take the luma once more, and be 1.3 dB too high.
ALTERING = {'mean': None, 'std': None, 'color': 'gray'}
# What a dataset makes its LQ of, said in the results.
MAKING = ('color', 'mask', 'dataroot_mask', 'degradation', 'gt_usm', 'seed')


@dataclass
class Sample:
    """One image of a set.

    name: unique in its set, fit for a file name. gt: BGR uint8 (H, W, 3), or None. fingerprint: of LQ, GT and mask.
    make_lq: () -> RGB float32 (3, h, w) in [0, 1], noise may leave it; asked only where something is to be restored.
    mask: float32 (H, W), 1 in the hole, 0 elsewhere, or None.
    """
    name: str
    gt: Optional[np.ndarray]
    fingerprint: str
    make_lq: Callable
    mask: Optional[np.ndarray] = None

    def lq_batch(self, device):
        """(1, 3, h, w)."""
        return self.make_lq()[None].to(device)

    def gt_batch(self, device):
        """(1, 3, H, W) RGB in [0, 1], or None."""
        return None if self.gt is None else (img2tensor(self.gt) / 255)[None].to(device)

    def mask_batch(self, device):
        """(1, 1, H, W), or None."""
        return None if self.mask is None else torch.from_numpy(self.mask)[None, None].to(device)


@dataclass
class ImageSet:
    """A dataset by name. degrade: (gt, path) -> LQ, where the dataset holds GT alone; how: said in the results."""
    name: str
    dataset: Any
    how: str
    degrade: Optional[Callable] = None

    def __post_init__(self):
        paths = [path.get('gt_path', path.get('lq_path')) if isinstance(path, dict) else path
                 for path in self.dataset.paths]
        stems = [Path(path).stem for path in paths]
        names = stems if len(set(stems)) == len(stems) else [os.path.relpath(path, Path(paths[0]).parent)
                                                             for path in paths]
        self.names = [as_file_name(name) for name in names]

    def __len__(self):
        return len(self.dataset)

    @cached_property
    def has_masks(self):
        """Whether there are holes to be filled."""
        return 'mask' in self.item(0)

    def item(self, index):
        """What the dataset, maybe a user's own, gives; InputError where that is no use."""
        what = f'--sets: {self.names[index]} of {self.name}'
        with telling(what):
            item = self.dataset[index]
        lq = item.get('lq')
        if not torch.is_tensor(lq) or lq.ndim != 3 or len(lq) not in (1, 3):
            raise InputError(f'{what}: the dataset must give an lq of (3, h, w), RGB in [0, 1], or of (1, h, w), grey')
        # All methods get three channels; of grey images these are alike.
        grey = {side: item[side].repeat(3, 1, 1) for side in ('lq', 'gt') if side in item and len(item[side]) == 1}
        return {**item, **grey}

    def sample(self, index):
        """The Sample of an index; InputError where a file cannot be used."""
        item = self.item(index)
        name = self.names[index]
        if self.degrade:
            gt = tensor2img(item['lq'])
            return self.degrade(name, gt, item['lq_path'])
        gt = tensor2img(item['gt']) if 'gt' in item else None
        mask = item['mask'][0].numpy() if 'mask' in item else None
        parts = [item['lq'].numpy(), gt] + ([mask] if mask is not None else [])
        return Sample(name, gt, digest(*parts), lambda: item['lq'], mask)


class Shrinking:
    """Makes samples of GT images: cropped to a multiple of the scale, shrunk by MATLAB-like bicubic, 8 bits."""

    def __init__(self, scale):
        self.scale = scale
        # Every method asks again, and the resizing is slow.
        self.made = {}

    def __call__(self, name, gt, path):
        whole = gt.shape
        height, width = (side // self.scale * self.scale for side in whole[:2])
        gt = np.ascontiguousarray(gt[:height, :width])

        def make_lq():
            if path not in self.made:
                try:
                    self.made[path] = imresize_once_rounded(gt, 1 / self.scale)
                except ValueError:
                    raise InputError(f'--sets: {path} ({whole[1]}x{whole[0]}) is too small to be shrunk by '
                                     f'{self.scale}') from None
            return img2tensor(self.made[path]) / 255

        return Sample(name, gt, digest(gt, f'bicubic / {self.scale}'), make_lq)


def digest(*parts):
    """A short hash of arrays and of what str() shows of others."""
    state = hashlib.blake2b(digest_size=12)
    for part in parts:
        if isinstance(part, np.ndarray):
            state.update(f'{part.dtype}{part.shape}'.encode())
            state.update(np.ascontiguousarray(part))
        else:
            state.update(str(part).encode())
    return state.hexdigest()


def parse_sets(text, scale, masks=False):
    """GT:LQ, GT:MASKS, GT or OPTION_FILE, but for the last also as NAME=... -> list of ImageSet.

    Args:
        text (str): One value of --sets.
        scale (int): GT side over LQ side.
        masks (bool): Whether the second folder of a pair holds masks.

    Raises:
        InputError: A place does not exist or holds no images, or images do not pair.
    """
    label, what = split_label(text, '--sets')
    first, second = split_pair(what)
    try:
        if not first.lower().endswith(OPTION_SUFFIXES) or os.path.isdir(first):
            return [set_of_folders(label, first, second, scale, masks)]
        if label:
            raise InputError('the sets of an option file bring their own names')
        return sets_of_option_file(first, scale)
    except InputError as error:
        raise InputError(f'--sets {text}: {str(error).removeprefix("--sets: ")}') from None


def set_of_folders(label, first, second, scale, masks):
    """The ImageSet of GT and LQ folders or LMDBs, of GT and masks, or of a GT folder alone."""
    gt, other = (os.path.expanduser(place) if place else None for place in (first, second))
    for place in filter(None, (gt, other)):
        if not os.path.isdir(place):
            raise InputError(f'{place} is not a folder; give GT_FOLDER:LQ_FOLDER, GT_FOLDER or an option file')
    name = label or as_file_name(folder_name(gt))
    if other is not None:
        kind, side, how = (('InpaintingDataset', 'mask', 'GT and masks from files') if masks else
                           ('PairedImageDataset', 'lq', 'GT and LQ from files'))
        options = {'type': kind, 'name': name, 'dataroot_gt': gt, f'dataroot_{side}': other, 'scale': scale,
                   'filename_tmpl': template(gt, other), 'phase': 'test'}
        return ImageSet(name, look_up('dataset', kind, '--sets')(options), how)
    if scale == 1:
        raise InputError('at scale 1 a second folder is needed, GT_FOLDER:LQ_FOLDER, or with --masks '
                         'GT_FOLDER:MASK_FOLDER')
    # SingleImageDataset reads folders and LMDBs; what it calls LQ is the GT here.
    options = {'type': 'SingleImageDataset', 'name': name, 'dataroot_lq': gt, 'phase': 'test'}
    dataset = look_up('dataset', options['type'], '--sets')(options)
    return ImageSet(name, dataset, f'LQ made from the GT by MATLAB-like bicubic, 1/{scale}', Shrinking(scale))


def folder_name(folder):
    """'Set5' for datasets/Set5 and for datasets/Set5/GTmod12."""
    path = Path(os.path.abspath(folder))
    name = path.name.removesuffix('.lmdb')
    return path.parent.name if name.upper().startswith(('GT', 'HR')) else name


def template(gt, lq):
    """The filename_tmpl that pairs two folders; '{}' where none does, which the dataset then explains."""
    if is_lmdb(gt):
        return '{}'
    return fitting_template(list_images(gt, '--sets'), list_images(lq, '--sets')) or '{}'


def sets_of_option_file(path, scale):
    """The test and validation datasets of an option file."""
    opt = load_option_file(own_or_shipped(path, '--sets'))
    require(opt, '', ['datasets'])
    if (opt.get('scale') or 1) != scale:
        raise InputError(f'its scale is {opt.get("scale")}, --scale is {scale}')
    require(opt['datasets'], 'datasets', [])
    sections = {phase: section for phase, section in opt['datasets'].items() if phase.split('_')[0] in ('test', 'val')}
    if not sections:
        raise InputError('datasets has neither test nor val')
    opt['datasets'] = sections
    found = []
    for phase, section in sections.items():
        require(section, f'datasets.{phase}', ['type'])
        check_dataset(opt, f'datasets.{phase}', section, warn)
        for key, usual in ALTERING.items():
            if section.get(key) not in (None, usual):
                raise InputError(f'datasets.{phase}.{key}: methods are compared on RGB in [0, 1]; remove it'
                                 + (', and a network of one channel restores each colour by itself, or say color: gray'
                                    if key == 'color' else ''))
    check_places(opt)
    for phase, section in sections.items():
        dataset_type = look_up('dataset', section['type'], f'datasets.{phase}.type')
        with telling(f'datasets.{phase}'):
            dataset = dataset_type({**section, **expanded_places(section), 'phase': 'test', 'scale': scale})
        if not all(isinstance(path, (str, os.PathLike, dict)) for path in getattr(dataset, 'paths', [None])):
            raise InputError(f'datasets.{phase}.type: {section["type"]} does not list its images, as `paths`')
        how = f'{section["type"]} of {Path(path).name}{made_of(section)}'
        found.append(ImageSet(as_file_name(section['name']), dataset, how))
    return found


def made_of(section):
    """Such as ', {mask: {preset: lama_thick_256, seed: 0}}', what the LQ of a dataset section is made of."""
    said = {key: section[key] for key in MAKING if section.get(key) is not None}
    return f', {yaml.safe_dump(said, default_flow_style=True, width=math.inf).strip()}' if said else ''
