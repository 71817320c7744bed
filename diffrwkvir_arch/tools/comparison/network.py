"""A network at work: it restores images whole or in tiles, its cost is counted, and what it cannot do is told."""
import math

import torch

from diffrwkvir_arch.archs.hole_filling import keep_known
from diffrwkvir_arch.archs.tokens import pad_to_multiple
from diffrwkvir_arch.device import out_of_memory
from diffrwkvir_arch.errors import InputError, telling
from diffrwkvir_arch.tiling import restore_tiled, tile_count

from ..complexity import complexity, within
from ..networks import taken_by


def on_images(function, *more):
    """function(lq, *more), with mask=mask where there is one, as a function of both joined, (1, 3 or 4, h, w)."""
    return lambda joined: function(joined[:, :3], *more, **({'mask': joined[:, 3:]} if joined.shape[1] > 3 else {}))


class Network:
    """A network that maps an LQ to an image `scale` times as large.

    Args:
        net (nn.Module): On its device, in eval mode.
        call (callable): What maps tensors; the network itself, or what spandrel wraps around it.
        multiple (int | None): Sides are padded to multiples of this, and the result is cropped; not where the network
            itself does so (pads_inside).
        scale (int): Output side over LQ side.
        note (str): What readers of the results should know about it.

    Raises:
        InputError: It needs more than an LQ, GT and mask.
    """

    def __init__(self, net, call, multiple, scale, note=''):
        self.net, self.call, self.scale = net, call, scale
        self.multiple = 1 if getattr(net, 'pads_inside', False) else multiple or 1
        self.reads_gt, self.needs_mask = taken_by(net)
        self.note = note

    def restore(self, lq, gt=None, mask=None, tile=None, overlap=0, after_call=None):
        """lq (1, 3, h, w) -> (1, 3, scale*h, scale*w).

        Args:
            gt (Tensor | None): (1, 3, scale*h, scale*w).
            mask (Tensor | None): (1, 1, h, w), 1 in the hole, 0 elsewhere; for networks that need one.
            tile (int | None): Images with a larger side are restored in tiles; where the network has a prior, all of
                them share the whole image's.
            overlap (int): Of tiles, in LQ pixels.
            after_call (callable | None): Called without arguments after each of `calls` calls of the network.

        Raises:
            InputError: The network needs a GT that is not there, or has another scale.
        """
        if self.reads_gt and gt is None:
            raise InputError('it reads its prior from the GT, and this set has none')
        # A peer's diffusion may draw its noise from the global generator.
        torch.manual_seed(0)
        gts = (gt, ) if self.reads_gt else ()
        joined = lq if mask is None else torch.cat([lq, mask], dim=1)
        function = on_images(self.call, *gts)

        def call(piece):
            restored = self.checked(function, piece)
            if after_call:
                after_call()
            return restored

        if self.calls(lq, tile, overlap) == 1:
            return call(joined)
        if hasattr(self.net, 'extract_prior') and hasattr(self.net, 'restore'):
            prior = on_images(self.net.extract_prior, *gts)(joined)
            function = on_images(self.net.restore, prior)
        return restore_tiled(call, joined, self.scale, tile, overlap)

    def calls(self, lq, tile, overlap):
        """Of the network, one for each tile of an LQ."""
        return tile_count(*lq.shape[-2:], tile, overlap)

    def checked(self, function, joined):
        """function(padded LQ and mask), cropped; refuses a result of another size."""
        height, width = joined.shape[-2:]
        padded = pad_to_multiple(joined, self.multiple)
        with self.failing_on(padded):
            output = function(padded)
        if not torch.is_tensor(output):
            raise InputError(f'it gives a {type(output).__name__} for an LQ, not an image')
        expected = (1, 3, self.scale * padded.shape[-2], self.scale * padded.shape[-1])
        if output.shape != expected:
            raise InputError(f'it gives {tuple(output.shape)} for an LQ of {tuple(padded[:, :3].shape)}, not '
                             f'x{self.scale}')
        return output[..., :self.scale * height, :self.scale * width]

    def failing_on(self, padded):
        """Tells what the network raises on an LQ and mask, but for want of memory."""
        return telling(f'{type(self.net).__name__} fails on an LQ of {tuple(padded[:, :3].shape)}', but=out_of_memory)

    def count(self, lq):
        """Parameters, FLOPs of one call on an image like lq (1, 3, h, w), and operators that FLOPs leave out.

        Returns:
            dict: parameters (int), flops (int, 2 for a multiply-add), uncounted (list of str).
        """
        lq = pad_to_multiple(lq, self.multiple)
        gt = lq.new_zeros(1, 3, self.scale * lq.shape[-2], self.scale * lq.shape[-1])
        masks = {'mask': torch.ones_like(lq[:, :1])} if self.needs_mask else {}
        with self.failing_on(lq):
            found = complexity(self.net, (lq, gt) if self.reads_gt else (lq, ), masks)
        return {'parameters': within(found.parameters), 'flops': within(found.flops), 'uncounted': [*found.uncounted]}


def finished(restored, lq, mask):
    """What a method made of an LQ, as users get it: whatever it does outside the hole, known pixels are the LQ's.

    Args:
        restored (Tensor): (1, 3, scale*h, scale*w); lq (Tensor): (1, 3, h, w); mask (Tensor | None): (1, 1, h, w).

    Raises:
        InputError: It holds numbers that are not finite.
    """
    # Both are nan where one value is; isfinite would copy the image.
    if not all(map(math.isfinite, restored.aminmax())):
        raise InputError('its output holds nan or infinity')
    return keep_known(restored, lq, mask)
