"""What networks do with images (B, C, H, W) before and between blocks: scaling, padding, views as token sequences."""
import torch
import torch.nn.functional as F

# Of natural images in [0, 1], over all channels.
MEAN, STD = 0.45, 0.25


def standardize(image):
    """[0, 1] -> about zero mean and unit variance.

    Without it a pixel's brightness outweighs its detail in every LayerNorm over channels, and training stays for
    hundreds of iterations where a linear filter gets.
    """
    return (image - MEAN) / STD


def enlarge(image, scale):
    """(B, C, h, w) -> (B, C, scale*h, scale*w), bicubically, as MATLAB does it."""
    if scale == 1:
        return image
    # antialias selects Keys' cubic with a = -0.5, MATLAB's; without it torch takes a = -0.75.
    exact = image if image.dtype == torch.float64 else image.float()
    return F.interpolate(exact, scale_factor=scale, mode='bicubic', antialias=True).to(image.dtype)


def refuse_other_shape(gt, lq, channels, scale):
    """Raises ValueError where GT is not (B, channels, scale*h, scale*w) for LQ (B, C, h, w)."""
    if gt.dim() != 4 or gt.shape[:2] != (len(lq), channels):
        raise ValueError(f'GT must be ({len(lq)}, {channels}, {scale}*h, {scale}*w) for LQ {tuple(lq.shape)}, got '
                         f'{tuple(gt.shape)}')
    expected = tuple(side * scale for side in lq.shape[-2:])
    if tuple(gt.shape[-2:]) != expected:
        raise ValueError(f'GT must be {scale} times as large as LQ: expected {expected} for LQ {tuple(lq.shape[-2:])}, '
                         f'got {tuple(gt.shape[-2:])}')


def to_tokens(image):
    """(B, C, H, W) -> (B, H*W, C); no copy when the image is channels-last, as it is throughout our networks."""
    return image.permute(0, 2, 3, 1).flatten(1, 2)


def to_image(tokens, height, width):
    """(B, H*W, C) -> (B, C, H, W) in channels-last memory; never a copy."""
    return tokens.unflatten(1, (height, width)).permute(0, 3, 1, 2)


def pad_to_multiple(image, multiple):
    """Pads (B, C, H, W) at the bottom and right so that both sides are multiples of `multiple`.

    Reflects where the image is large enough for it and repeats the border where it is not (down to 1x1).
    """
    height, width = image.shape[-2:]
    # Not -height % multiple: of a negative number torch.compile's inductor knows no remainder where sizes change.
    bottom, right = (multiple - 1 - (side - 1) % multiple for side in (height, width))
    if bottom == 0 and right == 0:
        return image
    mode = 'reflect' if bottom < height and right < width else 'replicate'
    return F.pad(image, (0, right, 0, bottom), mode=mode)
