"""Images with holes: GT, mask and masked image for inpainting (LaMa's convention: 1 in the mask is the hole)."""
import inspect
import os

import numpy as np
from basicsr.data.transforms import augment, paired_random_crop
from basicsr.utils.registry import DATASET_REGISTRY

from diffrwkvir_arch.data.image_source import ImageSource, to_tensor
from diffrwkvir_arch.data.mask_folder import MaskFolder
from diffrwkvir_arch.data.mask_presets import DrawnMasks
from diffrwkvir_arch.data.paired_image_dataset import shown
from diffrwkvir_arch.data.pairing import list_images, list_keys, listed_names
from diffrwkvir_arch.errors import InputError, did_you_mean

# What holes are filled with in lq: middle grey. Our networks overwrite it; others and people see it.
FILL = 0.5


@DATASET_REGISTRY.register()
class InpaintingDataset(ImageSource):
    """Images of a folder, a list or an LMDB, in the order of their names, each with a mask.

    In training a random patch, flipped and turned, with a mask drawn anew, or cropped from any mask of dataroot_mask.
    In validation and testing whole images; the mask follows from mask.seed and the file's stem, or is the file of that
    name in dataroot_mask.

    Args:
        opt (dict):
            dataroot_gt (str): Folder of whole images, or LMDB.
            dataroot_lq (str): The same for images without ground truth, such as damaged ones; instead of dataroot_gt.
            mask (dict): preset, size, max_area and seed of DrawnMasks.
            dataroot_mask (str), filename_tmpl (str), invert_mask (bool): As MaskFolder; instead of mask.
            meta_info_file (str): Names of images, one a line, may be in folders; without it every image of the folder.
            io_backend (dict): {type: disk} or {type: lmdb}, of the images; by default the latter for folders NAME.lmdb.
            phase (str): 'train', 'val' or 'test'.
            gt_size (int): Side of a training patch; without it whole images.
            use_hflip, use_rot (bool): Augmentation. Default: False.

    Items: lq (3, H, W), the image with FILL in its hole, RGB float32 in [0, 1]; mask (1, H, W), 1 in the hole, 0
    elsewhere; lq_path; and where there is a ground truth gt (3, H, W), gt_path.
    """

    known_options = {'mask', 'dataroot_mask', 'invert_mask'}

    def __init__(self, opt):
        self.side = 'gt' if opt.get('dataroot_gt') else 'lq'
        super().__init__(opt, [self.side])
        self.check_options(self.name, opt)
        self.is_train = opt['phase'] == 'train'
        if self.is_train and self.side == 'lq':
            raise InputError(f'{self.name}: training needs dataroot_gt, whole images')
        root, option = self.roots[self.side], self.option(f'dataroot_{self.side}')
        if self.is_lmdb:
            names = list_keys(root, option)
        elif opt.get('meta_info_file'):
            # Places365's own lists begin every name with a slash.
            names = [name.lstrip('/') for name in listed_names(opt['meta_info_file'], self.option('meta_info_file'))]
        else:
            names = list_images(root, option)
        self.paths = [self.path(self.side, name) for name in names]
        self.mask_paths = None
        if opt.get('mask'):
            self.masks = DrawnMasks(self.option('mask'), **opt['mask'])
        else:
            self.masks = MaskFolder(opt)
            if not self.is_train:
                self.mask_paths = self.masks.pair(names, must_use_all=not opt.get('meta_info_file'))

    @staticmethod
    def check_options(path, opt):
        """Refuses options that do not go together or have no effect here; `path` names them in messages."""
        for key in ('mean', 'std', 'color'):
            if opt.get(key) is not None:
                raise InputError(f'{path}: InpaintingDataset has no option {key}: known pixels must come back as they '
                                 'are')
        if (opt.get('scale') or 1) != 1:
            raise InputError(f'{path}: InpaintingDataset needs scale: 1, got {opt["scale"]}')
        if bool(opt.get('dataroot_gt')) == bool(opt.get('dataroot_lq')):
            raise InputError(f'{path}: InpaintingDataset needs either dataroot_gt, whole images, or dataroot_lq, '
                             'images without ground truth')
        if bool(opt.get('mask')) == bool(opt.get('dataroot_mask')):
            raise InputError(f'{path}: InpaintingDataset needs either mask, such as mask: {{preset: lama_thick_256}}, '
                             'or dataroot_mask, a folder of masks')
        mask = opt.get('mask')
        if mask is not None:
            known = list(inspect.signature(DrawnMasks).parameters)[1:]
            if not isinstance(mask, dict) or 'preset' not in mask:
                raise InputError(f'{path}.mask must be a section such as {{preset: lama_thick_256}}, got {mask!r}')
            for key in mask:
                if key not in known:
                    raise InputError(f"unknown option '{path}.mask.{key}'{did_you_mean(key, known)}")
            DrawnMasks(f'{path}.mask', **mask)

    def __getitem__(self, index):
        path = self.paths[index]
        image = self.read(path, self.side)
        if self.is_train:
            image = self.patch(image, path)
        mask = self.own_mask(self.mask_paths[index], image, path) if self.mask_paths else self.drawn_mask(image, path)
        mask = mask[..., None]
        masked = np.where(mask == 1, np.float32(FILL), image)
        item = {'lq': to_tensor(masked, {}), 'mask': to_tensor(mask, {}), 'lq_path': path}
        return item | ({'gt': to_tensor(image, {}), 'gt_path': path} if self.side == 'gt' else {})

    def patch(self, image, path):
        """A training patch of an image."""
        size = self.opt.get('gt_size')
        if size:
            if min(image.shape[:2]) < size:
                raise InputError(f'{path}: {shown(image)} is smaller than a patch of gt_size {size}; lower gt_size or '
                                 'remove the image')
            image, _ = paired_random_crop(image, image, size, 1, path)
        return augment(image, self.opt.get('use_hflip', False), self.opt.get('use_rot', False))

    def drawn_mask(self, image, path):
        """A mask for an image or patch."""
        try:
            if self.is_train:
                return self.masks.at_random(*image.shape[:2])
            return self.masks.of_stem(self.stem(path), *image.shape[:2])
        except InputError as error:
            raise InputError(f'no mask for {path}: {error}') from None

    def own_mask(self, mask_path, image, path):
        """The mask file of an image."""
        mask = self.masks.read_mask(mask_path)
        if mask.shape != image.shape[:2]:
            raise InputError(f'{mask_path}: the mask is {shown(mask)}, its image {path} is {shown(image)}')
        return mask

    def stem(self, path):
        """What names an image whatever its folder and format."""
        name = os.path.basename(path)
        return name if self.is_lmdb else os.path.splitext(name)[0]

    def __len__(self):
        return len(self.paths)
