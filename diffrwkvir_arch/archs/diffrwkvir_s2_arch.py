"""DiffRWKVIRS2: stage 2 diffuses the prior from the LQ alone and restores with it (Fig. 3)."""
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from .prior_diffusion import PriorDiffusion
from .prior_encoder import PriorEncoder
from .restorer import Restorer


@ARCH_REGISTRY.register()
class DiffRWKVIRS2(nn.Module):
    """Condition encoder(LQ) -> diffusion -> prior; restorer(LQ, prior).

    Args:
        scale ... use_checkpoint: As DiffRWKVIRS1, whose restorer this stage starts from.
        steps (int): Diffusion steps T, 4..20.
        seed (int): Seed of the noise that inference starts from.
    """

    def __init__(self, scale=4, in_channels=3, out_channels=3, dim=128, groups=4, blocks=6, head_dim=16, prior_dim=256,
                 encoder_dim=32, encoder_levels=3, upsampler='stepwise', up_dim=64, shift='omni', scan='omni',
                 mixer='ttt', ffn='cab', compress_ratio=4, use_checkpoint=False, steps=5, seed=0):
        super().__init__()
        block_options = dict(head_dim=head_dim, shift=shift, scan=scan, mixer=mixer, ffn=ffn,
                             compress_ratio=compress_ratio)
        self.restorer = Restorer(scale, in_channels, out_channels, dim, groups, blocks, prior_dim, upsampler, up_dim,
                                 use_checkpoint, block_options)
        self.condition = PriorEncoder(scale, in_channels, 0, encoder_dim, prior_dim, encoder_levels, block_options)
        self.diffusion = PriorDiffusion(prior_dim, steps, seed=seed)

    @property
    def needs_mask(self):
        """Whether the network inpaints."""
        return self.restorer.inpaints

    def extract_prior(self, lq, noise=None, steps=None, mask=None):
        """lq (B, C, h, w) in [0, 1] -> prior (B, prior_dim); noise and steps as PriorDiffusion takes them.

        mask (B, 1, h, w) is 1 in the hole, 0 elsewhere.
        """
        return self.diffusion(self.condition(lq, mask=mask), noise, steps)

    def restore(self, lq, prior, mask=None, composite=True):
        """lq (B, C, h, w), prior (B, prior_dim) -> (B, out_channels, scale*h, scale*w).

        Tiles of one image share the prior of the whole: extract it once, restore tile by tile. With a mask, composite
        puts the known pixels of the LQ into the result, bit for bit.
        """
        return self.restorer(lq, prior, mask, composite)

    def forward(self, lq, noise=None, steps=None, return_prior=False, mask=None, composite=True):
        """Restored image; with return_prior also the prior, which stage 2's distillation loss needs."""
        prior = self.extract_prior(lq, noise, steps, mask)
        restored = self.restore(lq, prior, mask, composite)
        return (restored, prior) if return_prior else restored
