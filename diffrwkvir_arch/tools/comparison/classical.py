"""Methods without a network: bicubic enlargement, the LQ as it is, and holes filled as OpenCV fills them.

References: A. Telea, An image inpainting technique based on the fast marching method (2004); M. Bertalmio et al.,
Navier-Stokes, fluid dynamics, and image and video inpainting (2001).
"""
from typing import Callable, NamedTuple

import cv2
import torch
from basicsr.utils import img2tensor, tensor2img

from diffrwkvir_arch.bicubic import imresize
from diffrwkvir_arch.errors import InputError

# Of the neighbourhood that a pixel of a hole is made of, in pixels; that of OpenCV's own examples.
RADIUS = 3


def enlarge(lq, mask, scale):
    image = lq[0].cpu().permute(1, 2, 0).numpy()
    return torch.from_numpy(imresize(image, scale)).permute(2, 0, 1)[None]


def keep(lq, mask, scale):
    return lq


def fill(flag):
    """One of OpenCV's two ways to inpaint, as a function of LQ and mask."""

    def inpaint(lq, mask, scale):
        hole = (mask[0, 0] > 0.5).byte().cpu().numpy()
        # Along the image's border OpenCV sees what lies in a hole: the LQ's grey, no GT.
        return (img2tensor(cv2.inpaint(tensor2img(lq), hole, RADIUS, flag)) / 255)[None].to(lq)

    return inpaint


class Rule(NamedTuple):
    """function: (LQ (1, 3, h, w), mask (1, 1, h, w) or None, scale) -> (1, 3, scale*h, scale*w); note: as Network's."""
    function: Callable
    note: str
    enlarges: bool = False
    needs_mask: bool = False


OPENCV = f"OpenCV's, radius {RADIUS}, 8 bits, on the CPU whatever the device"
CLASSICAL = {
    'bicubic': Rule(enlarge, "MATLAB's imresize, on the CPU whatever the device", enlarges=True),
    'lq': Rule(keep, 'the LQ as it is'),
    'telea': Rule(fill(cv2.INPAINT_TELEA), OPENCV, needs_mask=True),
    'navier-stokes': Rule(fill(cv2.INPAINT_NS), OPENCV, needs_mask=True),
}


class Classical:
    """A method of CLASSICAL at work, in the place of a Network.

    Args:
        name (str): Its name.
        scale (int): Output side over LQ side.

    Raises:
        InputError: It makes no sense at this scale.
    """

    reads_gt = False

    def __init__(self, name, scale):
        rule = CLASSICAL[name]
        if rule.enlarges and scale == 1:
            raise InputError('it enlarges, and --scale is 1; lq shows the LQ as it is')
        if not rule.enlarges and scale != 1:
            raise InputError(f'it is made for scale 1, --scale is {scale}')
        self.function, self.note, self.needs_mask, self.scale = rule.function, rule.note, rule.needs_mask, scale

    def restore(self, lq, gt=None, mask=None, tile=None, overlap=0, after_call=None):
        """As Network.restore; tiles are for networks."""
        return self.function(lq, mask, self.scale)

    def calls(self, lq, tile, overlap):
        return 1

    def count(self, lq):
        """Its cost as Network.count gives it: no parameters, and no network whose FLOPs could be counted."""
        return {'parameters': 0, 'flops': None, 'uncounted': []}
