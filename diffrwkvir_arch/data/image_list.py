"""What datasets share that read one image and make its LQ themselves, such as by holes or by noise."""
import os

from basicsr.data.transforms import augment, paired_random_crop

from diffrwkvir_arch.data.image_source import ImageSource, refuse_small
from diffrwkvir_arch.errors import InputError


class ImageList(ImageSource):
    """Images of a folder, a list or an LMDB, in the order of their names, at scale 1 unless a class says otherwise.

    Args:
        opt (dict): The dataset's options.
        side (str): 'gt' or 'lq': the images are those of dataroot_<side>.
    """

    any_scale = False

    def __init__(self, opt, side):
        super().__init__(opt, [side])
        self.side, self.is_train = side, opt['phase'] == 'train'
        self.names = self.list_names(side)
        self.paths = [self.path(side, name) for name in self.names]

    def list_names(self, side):
        # Places365's own lists begin every name with a slash.
        return [name.lstrip('/') for name in super().list_names(side)]

    @classmethod
    def check_options(cls, path, opt):
        super().check_options(path, opt)
        for key in ('mean', 'std'):
            if opt.get(key) is not None:
                raise InputError(f'{path}: {cls.__name__} has no option {key}: its images are in [0, 1]')
        if not cls.any_scale and (opt.get('scale') or 1) != 1:
            raise InputError(f'{path}: {cls.__name__} needs scale: 1, got {opt["scale"]}')

    def patch(self, image, path, spare=0):
        """A training patch of an image, flipped and turned; its sides are gt_size and up to `spare` more."""
        size = self.opt.get('gt_size')
        if size:
            refuse_small(image, size, path)
            image, _ = paired_random_crop(image, image, min(size + spare, *image.shape[:2]), 1, path)
        return augment(image, self.opt.get('use_hflip', False), self.opt.get('use_rot', False))

    def stem(self, path):
        """What names an image whatever its folder and format."""
        name = os.path.basename(path)
        return name if self.is_lmdb else os.path.splitext(name)[0]
