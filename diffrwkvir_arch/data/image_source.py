"""What image datasets share: folders or LMDBs that images are read from."""
import os

import cv2
import numpy as np
import torch
from basicsr.utils import FileClient, get_root_logger, rgb2ycbcr
from torch.utils.data import Dataset
from torchvision.transforms.functional import normalize

from diffrwkvir_arch.data.image_file import decode_image, has_alpha
from diffrwkvir_arch.data.pairing import is_lmdb, list_images, list_keys, listed_names
from diffrwkvir_arch.errors import InputError

# What `color` of a dataset makes of an image (H, W, 3), RGB in [0, 1], as (H, W); gray keeps the values of grey images.
COLORS = {
    'y': lambda image: rgb2ycbcr(image, y_only=True),
    'gray': lambda image: cv2.cvtColor(image, cv2.COLOR_RGB2GRAY),
}


class ImageSource(Dataset):
    """Reads images by path or LMDB key.

    Args:
        opt (dict): The dataset's options; dataroot_<side> for each side, and io_backend.
        sides (list of str): Such as ['lq', 'gt'].

    A dataset lists its images as `paths`.
    """

    def __init__(self, opt, sides):
        self.opt = opt
        self.name = f"dataset '{opt.get('name', type(self).__name__)}'"
        self.check_options(self.name, opt)
        self.roots = {}
        for side in sides:
            root = opt.get(f'dataroot_{side}')
            if not root:
                raise InputError(f'{self.option(f"dataroot_{side}")} is missing')
            if not os.path.isdir(root):
                raise InputError(f'{self.option(f"dataroot_{side}")}: {root} is not a folder')
            self.roots[side] = root
        backend = dict(opt.get('io_backend') or {})
        are_lmdb = [is_lmdb(root) for root in self.roots.values()]
        self.backend_type = backend.pop('type', 'lmdb' if all(are_lmdb) else 'disk')
        self.is_lmdb = self.backend_type == 'lmdb'
        if self.is_lmdb and not all(are_lmdb):
            raise InputError(f'{self.name}: io_backend type lmdb needs folders named NAME.lmdb, got '
                             f'{" and ".join(self.roots.values())}')
        if not self.is_lmdb and all(are_lmdb):
            raise InputError(f'{self.name}: {" and ".join(self.roots.values())} are LMDBs; set io_backend: '
                             '{type: lmdb}')
        self.backend_options = backend
        self.file_client = None
        self.told_of_alpha = False

    @classmethod
    def check_options(cls, path, opt):
        """Refuses options that do not go together or have no effect here; `path` names them in messages."""
        color = opt.get('color')
        if color not in (None, *COLORS):
            raise InputError(f'{path}.color must be y, the luma of YCbCr, or gray, got {color!r}; RGB is what it is '
                             'left out for')
        channels = channels_of(opt)
        for key in ('mean', 'std'):
            if isinstance(opt.get(key), list) and len(opt[key]) != channels:
                raise InputError(f'{path}.{key} must be a list of {channels}, one for each channel, got {opt[key]}')

    def option(self, key):
        """An option of this dataset, as error messages name it."""
        return f'{self.name}: {key}'

    def list_names(self, side):
        """The images of one side: what meta_info_file lists, or all of a folder or LMDB, sorted; keys of an LMDB."""
        list_all = list_keys if self.is_lmdb else list_images
        if not self.opt.get('meta_info_file'):
            return list_all(self.roots[side], self.option(f'dataroot_{side}'))
        listed = listed_names(self.opt['meta_info_file'], self.option('meta_info_file'))
        if not self.is_lmdb:
            return listed
        chosen = [os.path.splitext(name)[0].lstrip('/') for name in listed]
        known = set(list_keys(self.roots[side], self.option(f'dataroot_{side}')))
        absent = [name for name in chosen if name not in known]
        if absent:
            raise InputError(f'{self.option("meta_info_file")}: {len(absent)} of its {len(chosen)} images, such as '
                             f'{absent[0]}, are not in {self.roots[side]}; remove the option to use all of the LMDB')
        return chosen

    def path(self, side, name):
        """What `read` takes: the path of a file, or its LMDB key."""
        return name if self.is_lmdb else os.path.join(self.roots[side], name)

    def read(self, path, side):
        """One image as (H, W, 3) RGB float32 in [0, 1]."""
        if self.file_client is None:
            # Opened by the process that reads: LMDB does not survive a fork.
            options = dict(self.backend_options)
            if self.is_lmdb:
                options.update(db_paths=list(self.roots.values()), client_keys=list(self.roots))
            self.file_client = FileClient(self.backend_type, **options)
        try:
            content = bytes(self.file_client.get(path, side))
        except OSError as error:
            raise InputError(f'{self.name}: cannot read {path}: {error.strerror}') from None
        if has_alpha(content) and not self.told_of_alpha:
            self.told_of_alpha = True
            get_root_logger().warning(f'{self.name}: {path} has an alpha channel; it is dropped, here and in others')
        return decode_image(content, f'{self.roots[side]}: {path}' if self.is_lmdb else path)

    def __len__(self):
        return len(self.paths)

    def colored(self, image):
        """(H, W, 3) as `read` gives it -> as `color` says, (H, W, 1); the same where it says nothing."""
        color = self.opt.get('color')
        return image if color is None else COLORS[color](image)[..., None]

    def __getstate__(self):
        return {**self.__dict__, 'file_client': None}


def channels_of(opt):
    """How many channels the images of a dataset have, by its options."""
    return 3 if opt.get('color') is None else 1


def to_tensor(image, opt):
    """(H, W, C) array -> (C, H, W) float32 tensor, normalised where opt has mean and std."""
    tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32))
    if opt.get('mean') is not None or opt.get('std') is not None:
        normalize(tensor, opt.get('mean') or [0.] * len(tensor), opt.get('std') or [1.] * len(tensor), inplace=True)
    return tensor


def refuse_small(image, size, path):
    """Raises InputError where an image (H, W, C) has no room for a training patch."""
    if min(image.shape[:2]) < size:
        raise InputError(f'{path}: {shown(image)} is smaller than a patch of gt_size {size}; lower gt_size or remove '
                         'the image')


def shown(image):
    """An image's size as people write it, width first."""
    return f'{image.shape[1]}x{image.shape[0]}'
