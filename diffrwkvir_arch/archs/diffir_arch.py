"""DiffIR: both stages of *DiffIR: Efficient Diffusion Model for Image Restoration* (Xia et al., ICCV 2023), a peer.

The networks of its super-resolution code (github.com/Zj-BinXia/DiffIR, DiffIR-SRGAN), written anew with the state-dict
names and shapes of its checkpoints. Unlike there, a call in training returns the image alone unless the prior is asked
for, sizes that are no multiple of 8 are padded inside, and no device is assumed. The x4 network of DiffIR-RealSR is the
same; its x1 and x2 networks work on unshuffled LQs and have other shapes.
"""
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from .diffir_prior_diffusion import DDPM, Denoiser
from .diffir_prior_encoder import CPEN
from .diffir_restorer import DIRformer


@ARCH_REGISTRY.register()
class DiffIRS1(nn.Module):
    """Prior encoder(LQ, GT) -> restorer(LQ, prior). The defaults are the official x4 network.

    Args:
        n_encoder_res (int): Residual blocks of the prior encoder.
        inp_channels ... LayerNorm_type: As DIRformer.
    """

    def __init__(self, n_encoder_res=9, inp_channels=3, out_channels=3, scale=4, dim=64, num_blocks=(13, 1, 1, 1),
                 num_refinement_blocks=13, heads=(1, 2, 4, 8), ffn_expansion_factor=2.2, bias=False,
                 LayerNorm_type='BiasFree'):
        super().__init__()
        self.G = DIRformer(scale, inp_channels, out_channels, dim, num_blocks, num_refinement_blocks, heads,
                           ffn_expansion_factor, bias, LayerNorm_type)
        self.E = CPEN(inp_channels, out_channels, scale, n_encoder_res)

    @property
    def restorer(self):
        """What stage 2 starts from."""
        return self.G

    @property
    def encoder(self):
        """Stage 2's teacher."""
        return self.E

    def extract_prior(self, lq, gt):
        """lq (B, C, h, w), gt (B, C, scale*h, scale*w), both in [0, 1] -> (B, 256)."""
        return self.E(lq, gt)

    def restore(self, lq, prior):
        """lq (B, C, h, w), prior (B, 256) -> (B, C, scale*h, scale*w)."""
        return self.G(lq, prior)

    def forward(self, lq, gt):
        return self.restore(lq, self.extract_prior(lq, gt))


@ARCH_REGISTRY.register()
class DiffIRS2(nn.Module):
    """Condition encoder(LQ) -> diffusion -> prior; restorer(LQ, prior).

    Args:
        n_encoder_res ... LayerNorm_type: As DiffIRS1, whose restorer this stage starts from.
        n_denoise_res (int): Layers of the denoiser after its first.
        linear_start, linear_end, timesteps: As DDPM.
    """

    def __init__(self, n_encoder_res=9, inp_channels=3, out_channels=3, scale=4, dim=64, num_blocks=(13, 1, 1, 1),
                 num_refinement_blocks=13, heads=(1, 2, 4, 8), ffn_expansion_factor=2.2, bias=False,
                 LayerNorm_type='BiasFree', n_denoise_res=1, linear_start=0.1, linear_end=0.99, timesteps=4):
        super().__init__()
        self.G = DIRformer(scale, inp_channels, out_channels, dim, num_blocks, num_refinement_blocks, heads,
                           ffn_expansion_factor, bias, LayerNorm_type)
        self.condition = CPEN(inp_channels, 0, scale, n_encoder_res)
        self.denoise = Denoiser(n_denoise_res, timesteps)
        self.diffusion = DDPM(self.denoise, self.condition, timesteps, linear_start, linear_end)

    @property
    def restorer(self):
        """What stage 1 hands over."""
        return self.G

    def extract_prior(self, lq, noise=None):
        """lq (B, C, h, w) in [0, 1] -> prior (B, 256); noise as DDPM takes it."""
        return self.diffusion(lq, noise)

    def restore(self, lq, prior):
        """lq (B, C, h, w), prior (B, 256) -> (B, C, scale*h, scale*w).

        Tiles of one image share the prior of the whole: extract it once, restore tile by tile.
        """
        return self.G(lq, prior)

    def forward(self, lq, noise=None, return_prior=False):
        """Restored image; with return_prior also the prior, which stage 2's distillation loss needs."""
        prior = self.extract_prior(lq, noise)
        restored = self.restore(lq, prior)
        return (restored, prior) if return_prior else restored
