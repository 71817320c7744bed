"""Images with holes: GT, mask and masked image for inpainting (LaMa's convention: 1 in the mask is the hole)."""
import numpy as np
from basicsr.utils.registry import DATASET_REGISTRY

from diffrwkvir_arch.data.image_list import ImageList
from diffrwkvir_arch.data.image_source import shown, to_tensor
from diffrwkvir_arch.data.mask_folder import MaskFolder
from diffrwkvir_arch.data.mask_presets import DrawnMasks
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.signatures import check_names
from diffrwkvir_arch.values import check_flag

# What holes are filled with in lq: middle grey. Our networks fill them anew; others and people see it.
FILL = 0.5


@DATASET_REGISTRY.register()
class InpaintingDataset(ImageList):
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
            color (str): As PairedImageDataset's.

    Items: lq (C, H, W), the image with FILL in its hole, float32 in [0, 1], RGB or one channel; mask (1, H, W), 1 in
    the hole, 0 elsewhere; lq_path; and where there is a ground truth gt (C, H, W), gt_path.
    """

    known_options = {'mask', 'dataroot_mask', 'invert_mask'}

    def __init__(self, opt):
        super().__init__(opt, 'gt' if opt.get('dataroot_gt') else 'lq')
        if self.is_train and self.side == 'lq':
            raise InputError(f'{self.name}: training needs dataroot_gt, whole images')
        self.mask_paths = None
        if opt.get('mask'):
            self.masks = DrawnMasks(self.option('mask'), **opt['mask'])
        else:
            self.masks = MaskFolder(opt)
            if not self.is_train:
                self.mask_paths = self.masks.pair(self.names, must_use_all=not opt.get('meta_info_file'))

    @classmethod
    def check_options(cls, path, opt):
        super().check_options(path, opt)
        if bool(opt.get('dataroot_gt')) == bool(opt.get('dataroot_lq')):
            raise InputError(f'{path}: InpaintingDataset needs either dataroot_gt, whole images, or dataroot_lq, '
                             'images without ground truth')
        if bool(opt.get('mask')) == bool(opt.get('dataroot_mask')):
            raise InputError(f'{path}: InpaintingDataset needs either mask, such as mask: {{preset: lama_thick_256}}, '
                             'or dataroot_mask, a folder of masks')
        check_flag(f'{path}.invert_mask', opt.get('invert_mask'))
        mask = opt.get('mask')
        for key in ('filename_tmpl', 'invert_mask'):
            if mask and key in opt:
                raise InputError(f'{path}.{key} is for masks in a folder, and has no effect on masks that are drawn')
        if mask is not None:
            if not isinstance(mask, dict) or 'preset' not in mask:
                raise InputError(f'{path}.mask must be a section such as {{preset: lama_thick_256}}, got {mask!r}')
            check_names(f'{path}.mask', mask, DrawnMasks, given=['option'])
            DrawnMasks(f'{path}.mask', **mask)

    def __getitem__(self, index):
        path = self.paths[index]
        image = self.read(path, self.side)
        if self.is_train:
            image = self.patch(image, path)
        image = self.colored(image)
        mask = self.own_mask(self.mask_paths[index], image, path) if self.mask_paths else self.drawn_mask(image, path)
        mask = mask[..., None]
        masked = np.where(mask == 1, np.float32(FILL), image)
        item = {'lq': to_tensor(masked, {}), 'mask': to_tensor(mask, {}), 'lq_path': path}
        return item | ({'gt': to_tensor(image, {}), 'gt_path': path} if self.side == 'gt' else {})

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
