"""LQ images alone, as BasicSR's SingleImageDataset, with its faults mended."""
from basicsr.utils.registry import DATASET_REGISTRY

from diffrwkvir_arch.data.image_source import ImageSource, to_tensor
from diffrwkvir_arch.registration import register_instead


@register_instead(DATASET_REGISTRY)
class SingleImageDataset(ImageSource):
    """LQ images of a folder, a list or an LMDB, in the order of their names, without ground truth.

    Args:
        opt (dict): As BasicSR's SingleImageDataset:
            dataroot_lq (str): Folder of images, or LMDB.
            meta_info_file (str): Names of images, one a line; without it every image of the folder.
            io_backend (dict): {type: disk} or {type: lmdb}; by default the latter for folders named NAME.lmdb.
            color (str): 'y' for the luma of YCbCr alone (16/255 to 235/255), 'gray' for grey images (0 to 1).
            mean, std (list): Normalisation per channel.

    Items: lq (C, h, w), float32 in [0, 1], RGB or one channel; lq_path.
    """

    def __init__(self, opt):
        super().__init__(opt, ['lq'])
        self.paths = [self.path('lq', name) for name in self.list_names('lq')]

    def __getitem__(self, index):
        path = self.paths[index]
        lq = self.colored(self.read(path, 'lq'))
        return {'lq': to_tensor(lq, self.opt), 'lq_path': path}
