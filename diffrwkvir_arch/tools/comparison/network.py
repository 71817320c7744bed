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


def on_images(function, *more, channels=3):
    """function(lq, *more), with mask=mask where there is one, as a function of both joined, the mask last."""
    return lambda joined: function(joined[:, :channels], *more,
                                   **({'mask': joined[:, channels:]} if joined.shape[1] > channels else {}))


class Network:
    """A network that maps an LQ to an image `scale` times as large; one for grey images does so channel by channel.

    Args:
        net (nn.Module): On its device, in eval mode.
        call (callable): What maps tensors; the network itself, or what spandrel wraps around it.
        multiple (int | None): Sides are padded to multiples of this, and the result is cropped; not where the network
            itself does so (pads_inside).
        scale (int): Output side over LQ side.
        note (str): What readers of the results should know about it.
        channels (int): Of the LQ, without a mask, and of what it makes of it: 3, or 1.

    Raises:
        InputError: It needs more than an LQ, GT and mask, or has other channels.
    """

    def __init__(self, net, call, multiple, scale, note='', channels=3):
        if channels not in (1, 3):
            raise InputError(f'it makes images of {channels} channels, and here they are RGB or grey')
        self.net, self.call, self.scale, self.channels = net, call, scale, channels
        self.multiple = 1 if getattr(net, 'pads_inside', False) else multiple or 1
        self.reads_gt, self.needs_mask = taken_by(net)
        self.note = '; '.join(filter(None, [note, 'each channel by itself' if channels == 1 else '']))

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
        if self.channels == 1 and lq.shape[1] > 1:
            passes = max(self.passes(image) for image in (lq, gt) if image is not None)
            parts = [self.restore(lq[:, [c]], None if gt is None else gt[:, [c]], mask, tile, overlap, after_call)
                     for c in range(passes)]
            return torch.cat(parts * (lq.shape[1] // passes), dim=1)
        # A peer's diffusion may draw its noise from the global generator.
        torch.manual_seed(0)
        gts = (gt, ) if self.reads_gt else ()
        joined = lq if mask is None else torch.cat([lq, mask], dim=1)
        function = on_images(self.call, *gts, channels=self.channels)

        def call(piece):
            restored = self.checked(function, piece)
            if after_call:
                after_call()
            return restored

        if tile_count(*lq.shape[-2:], tile, overlap) == 1:
            return call(joined)
        if hasattr(self.net, 'extract_prior') and hasattr(self.net, 'restore'):
            prior = on_images(self.net.extract_prior, *gts, channels=self.channels)(joined)
            function = on_images(self.net.restore, prior, channels=self.channels)
        return restore_tiled(call, joined, self.scale, tile, overlap)

    def calls(self, lq, tile, overlap):
        """Of the network, one for each tile of an LQ, and of each channel that it restores by itself."""
        return tile_count(*lq.shape[-2:], tile, overlap) * self.passes(lq)

    def passes(self, image):
        """How many times an image (1, 3, h, w) is restored: a grey one once."""
        return len(image[0]) if self.channels == 1 and not (image == image[:, :1]).all() else 1

    def checked(self, function, joined):
        """function(padded LQ and mask), cropped; refuses a result of another size."""
        height, width = joined.shape[-2:]
        padded = pad_to_multiple(joined, self.multiple)
        with self.failing_on(padded):
            output = function(padded)
        if not torch.is_tensor(output):
            raise InputError(f'it gives a {type(output).__name__} for an LQ, not an image')
        expected = (1, self.channels, self.scale * padded.shape[-2], self.scale * padded.shape[-1])
        if output.shape != expected:
            raise InputError(f'it gives {tuple(output.shape)} for an LQ of {self.shape_of(padded)}, not x{self.scale}')
        return output[..., :self.scale * height, :self.scale * width]

    def failing_on(self, padded):
        """Tells what the network raises on an LQ and mask, but for want of memory."""
        return telling(f'{type(self.net).__name__} fails on an LQ of {self.shape_of(padded)}', but=out_of_memory)

    def shape_of(self, joined):
        """That of the LQ in what is joined with a mask."""
        return tuple(joined[:, :self.channels].shape)

    def count(self, lq):
        """Parameters, FLOPs of one call on an image like lq (1, 3, h, w), and operators that FLOPs leave out.

        Returns:
            dict: parameters (int), flops (int, 2 for a multiply-add), uncounted (list of str).
        """
        lq = pad_to_multiple(lq[:, :self.channels], self.multiple)
        gt = lq.new_zeros(1, self.channels, self.scale * lq.shape[-2], self.scale * lq.shape[-1])
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
