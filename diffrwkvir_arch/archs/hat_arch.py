"""HAT: *Activating More Pixels in Image Super-Resolution Transformer* (Chen et al., CVPR 2023), a peer.

The network is that of the package spandrel, a port of the official code (github.com/XPixelGroup/HAT), whose checkpoints
load strictly.
"""
from functools import partial

from basicsr.utils.registry import ARCH_REGISTRY

from diffrwkvir_arch.errors import InputError

from .tokens import pad_to_multiple

SCALES = (1, 2, 3, 4, 8)


@ARCH_REGISTRY.register()
def HAT(img_size=64, in_chans=3, embed_dim=180, depths=(6, 6, 6, 6, 6, 6), num_heads=(6, 6, 6, 6, 6, 6), window_size=16,
        compress_ratio=3, squeeze_factor=30, conv_scale=0.01, overlap_ratio=0.5, mlp_ratio=2., qkv_bias=True,
        qk_scale=None, drop_rate=0., attn_drop_rate=0., drop_path_rate=0.1, patch_norm=True, upscale=4, img_range=1.,
        upsampler='pixelshuffle', resi_connection='1conv'):
    """Builds the network: LQ (B, in_chans, h, w) in [0, 1] -> (B, in_chans, upscale*h, upscale*w), any h and w.

    The defaults are the published x4 network.

    Args:
        img_size (int): More than window_size; of no other effect.
        in_chans (int): Channels of the image.
        embed_dim (int): Channels C of the body.
        depths, num_heads (list of int): Hybrid attention blocks of each residual group, and their attention heads.
        window_size (int): Side of an attention window; images are padded to multiples of it inside.
        compress_ratio, squeeze_factor (int): C over the channels inside a channel attention block and its attention.
        conv_scale (float): Weight of the channel attention block beside the window attention.
        overlap_ratio (float): By how much the windows of the overlapping cross-attention are larger.
        mlp_ratio (float): Channels inside the feed-forward part over C.
        qkv_bias (bool), qk_scale (float or None): Bias of the projections; factor of the logits, None for 1/sqrt(dim).
        drop_rate, attn_drop_rate (float): Dropout of features and of attention weights.
        drop_path_rate (float): How often the last block's branches are left out in training; rises linearly to there.
        patch_norm (bool): LayerNorm before the body.
        upscale (int): 1, 2, 3, 4 or 8.
        img_range (float): What the image is multiplied by inside.
        upsampler (str): 'pixelshuffle', all there is.
        resi_connection (str): What ends a residual group: '1conv', or 'identity' for nothing.

    Raises:
        InputError: spandrel cannot be imported.
        ValueError: An option that no network can be built with.
    """
    if upscale not in SCALES:
        raise ValueError(f'upscale must be one of {SCALES}, got {upscale}')
    if upsampler != 'pixelshuffle':
        raise ValueError(f"upsampler must be 'pixelshuffle', got {upsampler!r}")
    if resi_connection not in ('1conv', 'identity'):
        raise ValueError(f"resi_connection must be '1conv' or 'identity', got {resi_connection!r}")
    if img_size <= window_size:
        raise ValueError(f'img_size must be more than window_size, {window_size}, got {img_size}')
    if len(num_heads) != len(depths) or any(embed_dim % heads for heads in num_heads):
        raise ValueError(f'num_heads must have {len(depths)} entries, one per group, that divide {embed_dim}, '
                         f'got {num_heads}')
    if int(window_size * overlap_ratio) % 2:
        raise ValueError(f'overlap_ratio must enlarge the window of {window_size} by an even number of pixels, '
                         f'{overlap_ratio} makes it {int(window_size * overlap_ratio)}')
    if not 1 <= min(compress_ratio, squeeze_factor) or max(compress_ratio, squeeze_factor) > embed_dim:
        raise ValueError(f'compress_ratio and squeeze_factor must be in 1..{embed_dim}, the channels, '
                         f'got {compress_ratio} and {squeeze_factor}')
    try:
        from spandrel.architectures.HAT import HAT as Network
    except ImportError as error:
        raise InputError(f"HAT needs the package spandrel: pip install 'diffrwkvir[peers]' ({error})") from None
    network = Network(
        img_size=img_size, in_chans=in_chans, embed_dim=embed_dim, depths=depths, num_heads=num_heads,
        window_size=window_size, compress_ratio=compress_ratio, squeeze_factor=squeeze_factor, conv_scale=conv_scale,
        overlap_ratio=overlap_ratio, mlp_ratio=mlp_ratio, qkv_bias=qkv_bias, qk_scale=qk_scale, drop_rate=drop_rate,
        attn_drop_rate=attn_drop_rate, drop_path_rate=drop_path_rate, patch_norm=patch_norm, upscale=upscale,
        img_range=img_range, upsampler=upsampler, resi_connection=resi_connection)
    # spandrel reflects, which fails for an image of less than about half a window.
    network.check_image_size = partial(pad_to_multiple, multiple=window_size)
    return network
