"""MambaIRv2 and its lightweight form (Guo et al., "MambaIRv2: Attentive State Space Restoration", CVPR 2025).

Parameters are named as in the official checkpoints (github.com/csguoh/MambaIR), which load strictly.
"""
from basicsr.utils.registry import ARCH_REGISTRY

from .mambair_frame import Frame, ResidualGroup
from .mambairv2_attention import pad_symmetric, relative_position_index, shift_mask
from .mambairv2_layer import AttentiveLayer, ConvFFN, GatedMLP


@ARCH_REGISTRY.register()
class MambaIRv2(Frame):
    """Image (B, in_chans, h, w) in [0, 1] -> (B, in_chans, upscale*h, upscale*w), any h and w.

    Args:
        upscale, in_chans, img_range, upsampler, resi_connection: See Frame.
        embed_dim (int): Channels C.
        d_state (int): States per channel.
        depths, num_heads (list of int): Layers of each residual group, and their attention heads.
        window_size (int): Side of an attention window; images are padded to multiples of it inside.
        num_tokens, inner_rank (int): Size and rank of the prompt pool.
        convffn_kernel_size (int): Side of the feed-forward part's convolution, odd; the official weights need 5.
        mlp_ratio (float): Channels inside scan and feed-forward part over C.
        use_checkpoint (bool): Recompute every layer in the backward pass: less memory, more time.
        img_size: Of no effect; the official option files give it.
    """

    feed_forward = ConvFFN
    pads_inside = True    # by repeating the border too, which models that pad for networks with windows do not

    def __init__(self, upscale=1, in_chans=3, img_size=64, img_range=1., embed_dim=48, d_state=8, depths=(6, 6, 6, 6),
                 num_heads=(4, 4, 4, 4), window_size=16, inner_rank=32, num_tokens=64, convffn_kernel_size=5,
                 mlp_ratio=2., upsampler='', resi_connection='1conv', use_checkpoint=False):
        if len(num_heads) != len(depths):
            raise ValueError(f'num_heads must have one entry per group, {len(depths)}, got {len(num_heads)}')
        if convffn_kernel_size % 2 == 0:
            raise ValueError(f'convffn_kernel_size must be odd, got {convffn_kernel_size}')
        groups = []
        for depth, heads in zip(depths, num_heads):
            # Every other layer shifts its windows by half.
            layers = [
                AttentiveLayer(embed_dim, d_state, num_tokens, inner_rank, heads, window_size,
                               window_size // 2 * (i % 2), mlp_ratio, self.feed_forward, convffn_kernel_size)
                for i in range(depth)]
            groups.append(ResidualGroup(embed_dim, 'layers', layers, resi_connection, use_checkpoint))
        super().__init__(groups, upscale, in_chans, img_range, embed_dim, upsampler, resi_connection)
        self.window_size = window_size
        self.register_buffer('relative_position_index_SA', relative_position_index(window_size))

    def forward(self, image):
        height, width = image.shape[-2:]
        image = pad_symmetric(image, self.window_size)
        mask = shift_mask(*image.shape[-2:], self.window_size, image.device)
        restored = self.restore(image, self.relative_position_index_SA, mask)
        return restored[..., :height * self.upscale, :width * self.upscale]


@ARCH_REGISTRY.register()
class MambaIRv2Light(MambaIRv2):
    """MambaIRv2 whose feed-forward parts are gated."""

    feed_forward = GatedMLP
