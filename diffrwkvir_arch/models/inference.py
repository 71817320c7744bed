"""How a trained network is run on an image: its EMA weights, windows, tiles, self-ensemble."""
import contextlib
import re

import torch

from diffrwkvir_arch.archs.hole_filling import keep_known
from diffrwkvir_arch.archs.tokens import pad_to_multiple
from diffrwkvir_arch.device import out_of_memory
from diffrwkvir_arch.errors import InputError, counted
from diffrwkvir_arch.option_sections import as_count
from diffrwkvir_arch.self_ensemble import self_ensemble
from diffrwkvir_arch.tiling import checked_overlap, restore_tiled
from diffrwkvir_arch.toolbox.network_options import with_defaults
from diffrwkvir_arch.values import check_flag


# Of PyTorch's convolutions.
MISFIT = re.compile(r'to have (\d+) channels, but got (\d+) channels')


@contextlib.contextmanager
def telling_channels(lq):
    """Of networks that nobody knows the channels of, a convolution's complaint becomes an InputError of one line."""
    try:
        yield
    except RuntimeError as error:
        found = MISFIT.search(str(error))
        if found is None:
            raise
        raise InputError(f'a convolution for {counted(int(found[1]), "channel")} got {found[2]}: network_g does not '
                         f'fit the dataset, whose LQ has {lq.shape[1]}') from error


def refuse_other_channels(output, gt):
    """Raises InputError for a result of other channels than the GT's: a loss would compare one with each of them."""
    if gt is not None and output.shape[1] != gt.shape[1]:
        raise InputError(f'network_g gives {output.shape[1]} and the GT of the dataset has '
                         f'{counted(gt.shape[1], "channel")}; they must be as many')


class Inference:
    """Mix-in before SRModel: `test`, which validation and `basicsr test` call for every image.

    val.tile restores images with a larger side (in LQ pixels) in tiles, blended over val.tile_overlap pixels (default
    16, at most half a tile); val.self_ensemble averages over eight flips and turns. The model has `restore`, and holds
    lq (B, C, h, w), mask (B, 1, h, w) or None, and where the dataset has one gt (B, C, scale*h, scale*w).
    """

    @staticmethod
    def check_options(opt):
        """Refuses values of val that cannot work."""
        val = opt.get('val') or {}
        for key, minimum in (('tile', 1), ('tile_overlap', 0)):
            if val.get(key) is not None:
                as_count(val, 'val', key, minimum)
        checked_overlap(val.get('tile'), val.get('tile_overlap'), names=('val.tile', 'val.tile_overlap'))
        check_flag('val.self_ensemble', val.get('self_ensemble'))

    def test(self):
        """Restores self.lq with the EMA weights where there are any; never through a DDP wrapper."""
        net = self.net_g_ema if hasattr(self, 'net_g_ema') else self.get_bare_model(self.net_g)
        training = net.training
        net.eval()
        try:
            with torch.no_grad(), telling_channels(self.lq):
                self.output = self.infer(net)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            side = max(self.lq.shape[-2:])
            tile = min(side, self.val_option('tile') or side) // 2
            raise InputError(f'an image of {self.lq.shape[-1]}x{self.lq.shape[-2]} pixels is too large for the memory '
                             f'of {self.device}; restore it in tiles, val.tile: {tile}') from error
        net.train(training)
        refuse_other_channels(self.output, getattr(self, 'gt', None))

    def val_option(self, key):
        """An option of val, None where it or the section is not given, as in scripts that only train."""
        return (self.opt.get('val') or {}).get(key)

    def infer(self, net):
        """self.lq -> (B, C, scale*h, scale*w)."""

        def restore(lq, gt, mask):
            with self.holding(lq, gt, mask):
                return self.restore_whole_or_tiled(net)

        images = self.lq, getattr(self, 'gt', None), self.mask
        output = self_ensemble(restore, *images) if self.val_option('self_ensemble') else restore(*images)
        # The mean of equal numbers, of overlapping tiles say, need not be that number.
        return keep_known(output, self.lq, self.mask)

    @contextlib.contextmanager
    def holding(self, lq, gt, mask):
        """Lets `restore` see these images in place of the model's own; gt and mask may be None."""
        held = {name: self.__dict__.get(name) for name in ('lq', 'gt', 'mask')}
        self.__dict__.update(lq=lq, gt=gt, mask=mask)
        try:
            yield
        finally:
            self.__dict__.update(held)
            if self.gt is None:
                del self.gt

    def restore_whole_or_tiled(self, net):
        """As `infer`, without self-ensemble."""
        tile = self.val_option('tile')
        if tile is None or max(self.lq.shape[-2:]) <= tile:
            return self.restore_padded(net)
        bare = self.get_bare_model(net)
        prior = self.extract_prior(bare) if hasattr(bare, 'extract_prior') and hasattr(bare, 'restore') else None

        def restore(piece):
            lq, mask = (piece, None) if self.mask is None else (piece[:, :-1], piece[:, -1:])
            with self.holding(lq, None, mask):
                if prior is None:
                    return self.restore_padded(net)
                return bare.restore(lq, prior, **self.mask_arguments(composite=True))

        joined = self.lq if self.mask is None else torch.cat([self.lq, self.mask], dim=1)
        return restore_tiled(restore, joined, self.opt.get('scale') or 1, tile,
                             checked_overlap(tile, self.val_option('tile_overlap')))

    def extract_prior(self, net):
        """The prior (B, prior_dim) of the whole image, which its tiles share."""
        return net.extract_prior(self.lq, **({} if self.mask is None else {'mask': self.mask}))

    def restore_padded(self, net):
        """Restores an LQ padded to whole windows where the network has windows, and crops the result."""
        window = with_defaults(self.opt['network_g']).get('window_size')
        if not window or getattr(self.get_bare_model(net), 'pads_inside', False):
            return self.restore(net)
        height, width = self.lq.shape[-2:]
        with self.holding(pad_to_multiple(self.lq, window), getattr(self, 'gt', None), self.mask):
            output = self.restore(net)
        scale = self.opt.get('scale') or 1
        return output[..., :height * scale, :width * scale]
