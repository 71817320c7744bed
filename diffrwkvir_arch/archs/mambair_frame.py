"""What MambaIR and MambaIRv2 have around their blocks: convolutions, residual groups and the upsampler.

Guo et al., "MambaIR" (2024), Fig. 2, the frame of Liang et al., "SwinIR" (2021). Parameters are named as in the
official checkpoints (github.com/csguoh/MambaIR).
"""
from collections import OrderedDict

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

# Of DIV2K's training images in [0, 1].
RGB_MEAN = (0.4488, 0.4371, 0.4040)
UPSAMPLERS = ('pixelshuffle', 'pixelshuffledirect', '')
UPSAMPLER_DIM = 64
# A pixel shuffle each.
FACTORS = {2: [2], 3: [3], 4: [2, 2], 8: [2, 2, 2]}


def to_channels_last(x):
    """(B, C, H, W) -> (B, H, W, C), a view."""
    return x.permute(0, 2, 3, 1)


def to_channels_first(x):
    """(B, H, W, C) -> (B, C, H, W), a view in channels-last memory."""
    return x.permute(0, 3, 1, 2)


def residual_convolution(kind, dim):
    """The convolution that ends a residual connection: '1conv', or '3conv' through a quarter of the channels."""
    if kind == '1conv':
        return nn.Conv2d(dim, dim, 3, padding=1)
    if kind == '3conv':
        return nn.Sequential(
            nn.Conv2d(dim, dim // 4, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(dim // 4, dim // 4, 1),
            nn.LeakyReLU(0.2), nn.Conv2d(dim // 4, dim, 3, padding=1))
    raise ValueError(f"resi_connection must be '1conv' or '3conv', got {kind!r}")


class ResidualGroup(nn.Module):
    """Blocks and a convolution around one skip connection (RSSG of MambaIR, ASSG of MambaIRv2).

    Args:
        dim (int): Channels C.
        name (str): What the checkpoint calls the blocks.
        blocks (iterable of nn.Module): Each maps (B, H, W, C) and the context to (B, H, W, C).
        resi_connection (str): See residual_convolution.
        use_checkpoint (bool): Recompute every block in the backward pass.
    """

    def __init__(self, dim, name, blocks, resi_connection, use_checkpoint):
        super().__init__()
        self.name, self.use_checkpoint = name, use_checkpoint
        self.residual_group = nn.ModuleDict({name: nn.ModuleList(blocks)})
        self.conv = residual_convolution(resi_connection, dim)

    def forward(self, x, *context):
        out = x
        for block in self.residual_group[self.name]:
            if self.use_checkpoint and self.training:
                out = checkpoint(block, out, *context, use_reentrant=False)
            else:
                out = block(out, *context)
        return x + to_channels_last(self.conv(to_channels_first(out)))


class Frame(nn.Module):
    """Image (B, in_chans, h, w) in [0, 1] -> (B, in_chans, upscale*h, upscale*w).

    Args:
        groups (iterable of ResidualGroup): The body.
        upscale (int): 1 without an upsampler, else 2, 3, 4 or 8.
        in_chans (int): Channels of the image.
        img_range (float): What the image is multiplied by inside.
        embed_dim (int): Channels of the body.
        upsampler (str): 'pixelshuffle' (SR), 'pixelshuffledirect' (lightweight SR) or '' (the body's size; the network
            predicts what to add to the image).
        resi_connection (str): See residual_convolution.
    """

    def __init__(self, groups, upscale, in_chans, img_range, embed_dim, upsampler, resi_connection):
        super().__init__()
        if upsampler not in UPSAMPLERS:
            raise ValueError(f'upsampler must be one of {UPSAMPLERS}, got {upsampler!r}')
        scales = tuple(FACTORS) if upsampler else (1, )
        if upscale not in scales:
            raise ValueError(f'upscale must be one of {scales} with upsampler {upsampler!r}, got {upscale}')
        self.upscale, self.img_range, self.upsampler = upscale, img_range, upsampler
        # No checkpoint has it: as a buffer it would be lost by to_empty().
        self.mean = RGB_MEAN if in_chans == 3 else (0., )
        self.conv_first = nn.Conv2d(in_chans, embed_dim, 3, padding=1)
        self.patch_embed = nn.Sequential(OrderedDict(norm=nn.LayerNorm(embed_dim)))
        self.layers = nn.ModuleList(groups)
        self.norm = nn.LayerNorm(embed_dim)
        self.conv_after_body = residual_convolution(resi_connection, embed_dim)
        if upsampler == 'pixelshuffledirect':
            self.upsample = nn.Sequential(
                nn.Conv2d(embed_dim, in_chans * upscale ** 2, 3, padding=1), nn.PixelShuffle(upscale))
        elif upsampler == 'pixelshuffle':
            self.conv_before_upsample = nn.Sequential(
                nn.Conv2d(embed_dim, UPSAMPLER_DIM, 3, padding=1), nn.LeakyReLU())
            self.upsample = nn.Sequential(*(layer for factor in FACTORS[upscale] for layer in (
                nn.Conv2d(UPSAMPLER_DIM, UPSAMPLER_DIM * factor ** 2, 3, padding=1), nn.PixelShuffle(factor))))
        if upsampler != 'pixelshuffledirect':
            self.conv_last = nn.Conv2d(UPSAMPLER_DIM if upsampler else embed_dim, in_chans, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def restore(self, image, *context):
        """The network; the context goes to every block."""
        mean = torch.cat([image.new_full((1, 1, 1, 1), value) for value in self.mean], dim=1)
        image = (image - mean) * self.img_range
        shallow = self.conv_first(image)
        x = self.patch_embed(to_channels_last(shallow))
        for group in self.layers:
            x = group(x, *context)
        x = shallow + self.conv_after_body(to_channels_first(self.norm(x)))
        if self.upsampler == 'pixelshuffledirect':
            x = self.upsample(x)
        elif self.upsampler == 'pixelshuffle':
            x = self.conv_last(self.upsample(self.conv_before_upsample(x)))
        else:
            x = image + self.conv_last(x)
        return x / self.img_range + mean
