"""DiffRWKVIRS1: stage 1 learns the prior from LQ and GT together with the restorer that uses it (Fig. 2)."""
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from .prior_encoder import PriorEncoder
from .restorer import Restorer


@ARCH_REGISTRY.register()
class DiffRWKVIRS1(nn.Module):
    """Prior encoder(LQ, GT) -> restorer(LQ, prior).

    The defaults are those of the paper's 11 M network (Table 4: 11.04 M), which is the second stage.

    Args:
        scale (int): 1, 2, 3 or 4.
        in_channels, out_channels (int): Channels of LQ, and of GT and output, such as 1 or 10 for images other than
            RGB. One more coming in than going out, 4 and 3, is for inpainting at scale 1: the mask is the fourth.
        dim (int): Channels of the restorer.
        groups, blocks (int): Residual groups, and DSE blocks in each (Section 4.1: 4 and 6).
        head_dim (int): Channels of a head of the state; divides dim.
        prior_dim (int): Width of the prior.
        encoder_dim (int): Channels of the prior encoder's uppermost scale; encoder_levels (int): its scales.
        upsampler (str): 'stepwise' | 'direct'; up_dim (int): channels of the stepwise one.
        shift (str): 'omni' | 'quad' | 'uni' (Fig. 5).
        scan (str): 'omni' | 'split' | '1d'.
        mixer (str): 'ttt' | 'attention' | 'resnet' | 'rwkv' (Restore-RWKV's), or one of your own: see mixers.py.
        ffn (str): 'cab' | 'mlp_relu' | 'mlp_gelu' | 'gated_mlp', or one of your own.
        compress_ratio (int): Channels of a block over those between the two convolutions of 'cab'.
        use_checkpoint (bool): Trade time for memory in training.
    """

    def __init__(self, scale=4, in_channels=3, out_channels=3, dim=128, groups=4, blocks=6, head_dim=16, prior_dim=256,
                 encoder_dim=32, encoder_levels=3, upsampler='stepwise', up_dim=64, shift='omni', scan='omni',
                 mixer='ttt', ffn='cab', compress_ratio=4, use_checkpoint=False):
        super().__init__()
        block_options = dict(head_dim=head_dim, shift=shift, scan=scan, mixer=mixer, ffn=ffn,
                             compress_ratio=compress_ratio)
        self.restorer = Restorer(scale, in_channels, out_channels, dim, groups, blocks, prior_dim, upsampler, up_dim,
                                 use_checkpoint, block_options)
        self.encoder = PriorEncoder(scale, in_channels, out_channels, encoder_dim, prior_dim, encoder_levels,
                                    block_options)

    @property
    def needs_mask(self):
        """Whether the network inpaints."""
        return self.restorer.inpaints

    def extract_prior(self, lq, gt, mask=None):
        """lq (B, C, h, w), gt (B, out_channels, scale*h, scale*w), both in [0, 1] -> (B, prior_dim).

        mask (B, 1, h, w) is 1 in the hole, 0 elsewhere.
        """
        return self.encoder(lq, gt, mask)

    def restore(self, lq, prior, mask=None, composite=True):
        """lq (B, C, h, w), prior (B, prior_dim) -> (B, out_channels, scale*h, scale*w).

        With a mask, composite puts the known pixels of the LQ into the result, bit for bit.
        """
        return self.restorer(lq, prior, mask, composite)

    def forward(self, lq, gt, mask=None, composite=True):
        return self.restore(lq, self.extract_prior(lq, gt, mask), mask, composite)
