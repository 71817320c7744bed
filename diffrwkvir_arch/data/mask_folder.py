"""Masks from files: of the image's own name in validation, any of the folder in training."""
import os
import random

import cv2
import numpy as np
from basicsr.utils import get_root_logger

from diffrwkvir_arch.data.image_source import ImageSource
from diffrwkvir_arch.data.pairing import pair_names
from diffrwkvir_arch.errors import InputError, some

# Masks in training before all are taken to hold no hole.
TRIES = 100


class MaskFolder(ImageSource):
    """Reads masks: white is the hole, black is known.

    Whatever is neither is decided at half: a pixel of at least half of white (128 of 255, the mean of its colours) is
    hole. A notice says so, once.

    Args:
        opt (dict): The dataset's options, of which
            dataroot_mask (str): Folder or LMDB.
            filename_tmpl (str): The mask's stem for an image's stem, such as '{}_mask000'. Default: '{}'.
            invert_mask (bool): Black is the hole. Default: False.
    """

    def __init__(self, opt):
        super().__init__({'name': opt.get('name', 'masks'),
                          'dataroot_mask': os.path.expanduser(opt['dataroot_mask'])}, ['mask'])
        self.template, self.inverted = opt.get('filename_tmpl') or '{}', bool(opt.get('invert_mask'))
        self.names = self.list_names('mask')
        self.told_of_grey = False

    def pair(self, image_names, must_use_all):
        """The path or key of each image's mask; InputError where an image has none, or a mask no image.

        Args:
            image_names (list of str): File names or LMDB keys.
            must_use_all (bool): Whether a mask without an image is an error.
        """
        pairs, left = pair_names(image_names, self.names, self.template, self.name)
        lonely = {'image without mask': [image for mask, image in pairs if mask is None],
                  'mask without image': left if must_use_all else []}
        parts = [f'{what}: {some(names)}' for what, names in lonely.items() if names]
        if parts:
            raise InputError(f'{self.name}: {"; ".join(parts)}; names must agree up to filename_tmpl: the mask of '
                             f'photo.jpg would be {self.template.format("photo")}.png')
        return [self.path('mask', mask) for mask, _ in pairs]

    def read_mask(self, path):
        """(H, W) float32, 1 in the hole."""
        image = self.read(path, 'mask')
        if 0 < image.max() < 2 / 255:
            raise InputError(f'{path}: this mask holds 0 and 1; the hole must be white, 255')
        # More than what JPEG makes of grey. By planes: np.ptp over an axis of three takes 27 times as long.
        red, green, blue = np.moveaxis(image, 2, 0)
        darkest, lightest = np.minimum(np.minimum(red, green), blue), np.maximum(np.maximum(red, green), blue)
        if (lightest - darkest).max() > 0.25:
            raise InputError(f'{path}: this mask is in colour; the hole must be white, 255, all else black')
        if not self.told_of_grey and not np.isin(image, (0, 1)).all():
            self.told_of_grey = True
            get_root_logger().warning(f'{self.name}: {path} holds more than black and white; a pixel of at least half '
                                      'of white counts as white, here and in others')
        white = image.mean(2) >= 0.5
        return (white != self.inverted).astype(np.float32)

    def at_random(self, height, width):
        """A crop (H, W) with a hole in it, of any mask, for training; all such crops of a mask are equally likely.

        Follows `random`.
        """
        for _ in range(TRIES):
            path = self.path('mask', random.choice(self.names))
            mask = self.read_mask(path)
            if mask.shape[0] < height or mask.shape[1] < width:
                raise InputError(f'{path}: a mask of {mask.shape[1]}x{mask.shape[0]} is smaller than a patch of '
                                 f'{width}x{height}; lower gt_size or enlarge the mask')
            # Entry [top, left] is the area above and left of that pixel.
            area = cv2.integral(mask)
            in_crop = area[height:, width:] - area[:-height, width:] - area[height:, :-width] + area[:-height, :-width]
            corners = np.flatnonzero(in_crop)
            if len(corners):
                top, left = divmod(random.choice(corners), in_crop.shape[1])
                return mask[top:top + height, left:left + width]
        raise InputError(f'{self.option("dataroot_mask")}: {TRIES} masks had no hole; '
                         'white is the hole, unless invert_mask: true')
