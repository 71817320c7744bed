"""Pairs for super-resolution and restoration, made of ground truth alone while it is read."""
from basicsr.data.transforms import paired_random_crop
from basicsr.utils.img_process_util import usm_sharp
from basicsr.utils.registry import DATASET_REGISTRY

from diffrwkvir_arch.data.degradations import build_degradations, reach_of
from diffrwkvir_arch.data.image_list import ImageList
from diffrwkvir_arch.data.image_source import shown, to_tensor
from diffrwkvir_arch.draws import drawn_for
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.values import check_flag, check_seed

# LQ pixels by which a patch is larger while it is degraded, where the image has them: cropped afterwards, JPEG's blocks
# of 8x8 lie anywhere in it, as in photographs that were cropped.
SPARE = 8


def without_border(side, size, reach, scale):
    """The slice of a side that leaves out `reach` pixels at both ends, or as many as leave it `size` long.

    reach, and what is left out, are multiples of scale.
    """
    border = min(reach, (side - size) // 2 // scale * scale)
    return slice(border, side - border)


def by_opencv(function, image):
    """function(image) of an image (H, W, C); it gets one channel as OpenCV has grey, (H, W)."""
    return function(image) if image.shape[2] > 1 else function(image[..., 0])[..., None]


@DATASET_REGISTRY.register()
class DegradationDataset(ImageList):
    """Images of a folder, a list or an LMDB, in the order of their names, each with its degraded copy.

    In training a random patch, flipped and turned, degraded anew each time. In validation and testing whole images, cut
    to multiples of the scale; what is drawn at random follows from seed and the file's stem, so that every run and
    every method gets the same LQ.

    Args:
        opt (dict):
            dataroot_gt (str): Folder of whole images, or LMDB.
            scale (int): GT side over LQ side; beyond 1 a degradation has to make images smaller. Default: 1.
            degradation (dict | list of dict): {type: gaussian_noise, sigma}, {type: blur, sigma, kernel, kernel_size},
                {type: jpeg, quality}, {type: bicubic}, as simple_degradations.py has them, {type: real_esrgan} with the
                options of real_esrgan.py, or several in their order. A pair such as sigma: [0, 50] is a range that each
                image gets its own value of.
            gt_usm (bool): Sharpens the GT first by an unsharp mask, as Real-ESRGAN does in training. Default: False.
            seed (int): Of validation and testing; training follows manual_seed. Default: 0.
            meta_info_file (str): Names of images, one a line, may be in folders; without it every image of the folder.
            io_backend (dict): {type: disk} or {type: lmdb}; by default the latter for folders named NAME.lmdb.
            phase (str): 'train', 'val' or 'test'.
            gt_size (int): Side of a training patch; without it whole images.
            use_hflip, use_rot (bool): Augmentation. Default: False.
            color (str): As PairedImageDataset's; it is the one channel that is degraded.

    Items: lq (C, H / scale, W / scale) and gt (C, H, W), float32, RGB or one channel, GT in [0, 1], LQ beyond it where
    noise was added; lq_path and gt_path, both that of the GT.
    """

    known_options = {'degradation', 'seed', 'gt_usm'}
    any_scale = True

    def __init__(self, opt):
        super().__init__(opt, 'gt')
        self.scale, self.seed = opt.get('scale') or 1, opt.get('seed') or 0
        self.degradations = build_degradations(self.option('degradation'), opt['degradation'], self.scale)
        self.reach = reach_of(self.degradations, self.scale)

    @classmethod
    def check_options(cls, path, opt):
        super().check_options(path, opt)
        for key in ('dataroot_lq', 'filename_tmpl'):
            if opt.get(key) is not None:
                raise InputError(f'{path}: DegradationDataset has no option {key}: it makes its LQ from dataroot_gt; '
                                 'for pairs of images use type PairedImageDataset')
        if not opt.get('dataroot_gt'):
            raise InputError(f'{path}: DegradationDataset needs dataroot_gt, whole images')
        if opt.get('degradation') is None:
            raise InputError(f'{path}: DegradationDataset needs degradation, such as degradation: {{type: '
                             'gaussian_noise, sigma: 25}')
        build_degradations(f'{path}.degradation', opt['degradation'], opt.get('scale') or 1)
        check_flag(f'{path}.gt_usm', opt.get('gt_usm'))
        check_seed(f'{path}.seed', opt.get('seed') or 0)

    def __getitem__(self, index):
        path = self.paths[index]
        gt = self.read(path, 'gt')
        if self.is_train:
            gt = self.prepared(self.patch(gt, path, SPARE * self.scale + 2 * self.reach), path)
            lq = self.degrade(gt)
            size = self.opt.get('gt_size')
            if size:
                rows, columns = (without_border(side, size, self.reach, self.scale) for side in gt.shape[:2])
                gt, lq = gt[rows, columns], lq[self.of_lq(rows), self.of_lq(columns)]
                gt, lq = paired_random_crop(gt, lq, size, self.scale, path)
        else:
            gt = self.prepared(gt, path)
            with drawn_for(self.seed, self.stem(path)):
                lq = self.degrade(gt)
        return {'lq': to_tensor(lq, {}), 'gt': to_tensor(gt, {}), 'lq_path': path, 'gt_path': path}

    def prepared(self, image, path):
        """The GT of an image: cut to multiples of the scale, of the channels wanted, sharpened where gt_usm says so."""
        height, width = (side // self.scale * self.scale for side in image.shape[:2])
        if not height or not width:
            raise InputError(f'{path}: {shown(image)} is too small for scale {self.scale}; remove the image')
        image = self.colored(image[:height, :width])
        return by_opencv(usm_sharp, image) if self.opt.get('gt_usm') else image

    def of_lq(self, part):
        """The slice of the LQ that belongs to one of the GT."""
        return slice(part.start // self.scale, part.stop // self.scale)

    def degrade(self, image):
        """(H, W, C) -> (H / scale, W / scale, C)."""
        for degradation in self.degradations:
            image = by_opencv(degradation, image)
        return image
