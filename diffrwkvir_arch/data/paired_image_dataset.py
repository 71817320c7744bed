"""Pairs of LQ and GT images, as BasicSR's PairedImageDataset, with its faults mended."""
from basicsr.data.transforms import augment, paired_random_crop
from basicsr.utils.registry import DATASET_REGISTRY

from diffrwkvir_arch.data.image_source import ImageSource, refuse_small, shown, to_tensor
from diffrwkvir_arch.data.pairing import list_images, list_keys, pair_names, refuse_unpaired
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.registration import register_instead


@register_instead(DATASET_REGISTRY)
class PairedImageDataset(ImageSource):
    """LQ and GT images of a folder, a list or an LMDB, in the order of their names.

    In training a random patch of either, flipped and turned; otherwise whole images.

    Args:
        opt (dict): As BasicSR's PairedImageDataset:
            dataroot_gt, dataroot_lq (str): Folders of images, or LMDBs.
            meta_info_file (str): Names of GT images, one a line; without it every image of the folder.
            filename_tmpl (str): The LQ stem for a GT stem, such as '{}x4'. Default: '{}'.
            io_backend (dict): {type: disk} or {type: lmdb}; by default the latter for folders named NAME.lmdb.
            scale (int): GT pixels per LQ pixel and side. Default: 1.
            phase (str): 'train', 'val' or 'test'.
            gt_size (int): Side of a training patch, in GT pixels; without it whole images.
            use_hflip, use_rot (bool): Augmentation. Default: False.
            color (str): 'y' for the luma of YCbCr alone (16/255 to 235/255), 'gray' for grey images (0 to 1).
            mean, std (list): Normalisation per channel.

    Items: lq (C, h, w) and gt (C, scale*h, scale*w), float32 in [0, 1], RGB or one channel; lq_path, gt_path.
    """

    def __init__(self, opt):
        if not opt.get('dataroot_lq') and opt.get('dataroot_gt'):
            raise InputError(f"dataset '{opt.get('name', 'PairedImageDataset')}': dataroot_lq is missing; type: "
                             'DegradationDataset, degradation: {type: bicubic} makes LQ images while it reads GT')
        super().__init__(opt, ['lq', 'gt'])
        self.scale = opt.get('scale') or 1
        template = '{}' if self.is_lmdb else opt.get('filename_tmpl') or '{}'
        list_all = list_keys if self.is_lmdb else list_images
        gt_names, lq_names = self.list_names('gt'), list_all(self.roots['lq'], self.option('dataroot_lq'))
        pairs, lq_left = pair_names(gt_names, lq_names, template, self.name)
        if opt.get('meta_info_file'):
            # The list chooses among the images of both folders.
            lq_left = []
        refuse_unpaired([gt for lq, gt in pairs if lq is None], lq_left, gt_names, lq_names, template, self.name)
        self.paths = [{'lq_path': self.path('lq', lq), 'gt_path': self.path('gt', gt)} for lq, gt in pairs]

    def __getitem__(self, index):
        lq_path, gt_path = self.paths[index]['lq_path'], self.paths[index]['gt_path']
        lq, gt = self.read(lq_path, 'lq'), self.read(gt_path, 'gt')
        if self.opt['phase'] == 'train':
            self.check_sizes(lq, gt, lq_path, gt_path, spare=0)
            gt_size = self.opt.get('gt_size')
            if gt_size:
                refuse_small(gt, gt_size, gt_path)
                gt, lq = paired_random_crop(gt, lq, gt_size, self.scale, gt_path)
            gt, lq = augment([gt, lq], self.opt.get('use_hflip', False), self.opt.get('use_rot', False))
        else:
            self.check_sizes(lq, gt, lq_path, gt_path, spare=self.scale - 1)
            gt = gt[:lq.shape[0] * self.scale, :lq.shape[1] * self.scale]
        return {
            'lq': to_tensor(self.colored(lq), self.opt),
            'gt': to_tensor(self.colored(gt), self.opt),
            'lq_path': lq_path,
            'gt_path': gt_path
        }

    def check_sizes(self, lq, gt, lq_path, gt_path, spare):
        """GT must be `scale` times LQ, or up to `spare` pixels larger, which are cropped."""
        for lq_side, gt_side in zip(lq.shape[:2], gt.shape[:2]):
            if not 0 <= gt_side - lq_side * self.scale <= spare:
                raise InputError(f'{self.name}: wrong scale or wrong pair: LQ {lq_path} is {shown(lq)}, GT {gt_path} '
                                 f'is {shown(gt)}, not {self.scale} times as large')
