"""Images that have other than three channels: networks, the data that they meet, and what is saved of it."""
import functools
import os

import basicsr.utils.img_util
import tifffile
import torch
from basicsr.archs.edsr_arch import EDSR
from basicsr.archs.rcan_arch import RCAN
from basicsr.models import sr_model
from basicsr.utils import imwrite

from diffrwkvir_arch.option_channels import refuse_misfit
from diffrwkvir_arch.toolbox.patching import swap


def mend_mean_of_three_colours():
    """Fault: archs/edsr_arch.py:42 and archs/rcan_arch.py:110 subtract the mean of three colours whatever num_in_ch
    says, so that one channel becomes three before the first convolution, which wants one.
    Mend: the mean of other than three channels is 0, as SwinIR's.
    """
    for arch in (EDSR, RCAN):
        give_other_mean(arch)


def give_other_mean(arch):
    """What mend_mean_of_three_colours does to one of the two networks."""

    @functools.wraps(arch.__init__)
    def __init__(self, num_in_ch, *args, **kwargs):
        __init__.upstream(self, num_in_ch, *args, **kwargs)
        if num_in_ch != 3:
            self.mean = torch.zeros(1, 1, 1, 1)

    swap(arch, '__init__', __init__)


def mend_first_meeting():
    """Fault: models/sr_model.py:94, images of another number of channels than the network's end in a convolution's
    traceback, or are broadcast: EDSR makes three channels of one, and the loss compares them with the one of the GT.
    Mend: both numbers in a line.
    """

    def feed_data(self, data):
        feed_data.upstream(self, data)
        path = data.get('lq_path', ['a dataset'])[0]
        # Of videos, (B, T, C, H, W), too.
        refuse_misfit(self.opt, self.lq.shape[-3], data['gt'].shape[-3] if 'gt' in data else None, path)

    swap(sr_model.SRModel, 'feed_data', feed_data)


def mend_results_of_many_channels():
    """Faults: utils/img_util.py:68, of an image of two or more than four channels OpenCV makes no BGR, and of four it
    leaves one out; models/sr_model.py:180, what is no colour does not fit a PNG.
    Mend: channels stay in their order, and a validation saves them as a TIFF.
    """

    def as_array(tensor, *args, **options):
        image = (tensor if torch.is_tensor(tensor) else tensor[0]).squeeze(0)
        if image.dim() != 3 or len(image) in (1, 3) or args or options:
            return as_array.upstream(tensor, *args, **options)
        return (image.detach().float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()

    def write(image, path):
        if image.ndim == 2 or image.shape[2] == 3:
            imwrite(image, path)
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        tifffile.imwrite(f'{os.path.splitext(path)[0]}.tif', image, photometric='minisblack', planarconfig='contig')

    swap(basicsr.utils.img_util, 'tensor2img', as_array)
    # Not elsewhere, where four channels are colours with alpha.
    sr_model.imwrite = write
