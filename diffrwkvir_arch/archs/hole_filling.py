"""Holes: filled by push-pull interpolation (Gortler et al. 1996), smoothly and in linear time; what is known stays."""
import torch
import torch.nn.functional as F

# Of an image that is all hole.
GREY = 0.5


def fill_holes(image, mask):
    """Known pixels as they are; in holes averages of the nearest known ones, the deeper the more of them.

    Whatever the image holds in a hole, NaN included, is of no account.

    Args:
        image (Tensor): (B, C, H, W).
        mask (Tensor): (B, 1, H, W), above 0.5 in the hole.

    Returns:
        Tensor: (B, C, H, W).
    """
    known = mask <= 0.5
    return _fill(torch.where(known, image, 0), known)


def keep_known(image, lq, mask):
    """The image in the hole and the LQ elsewhere, bit for bit, where the image is; without a mask (None) the image.

    Args:
        image, lq (Tensor): (B, C, H, W).
        mask (Tensor | None): (B, 1, H, W), above 0.5 in the hole.
    """
    return image if mask is None else torch.where(mask.to(image.device) > 0.5, image, lq.to(image.device))


def _fill(image, known):
    """image (B, C, H, W) is 0 where known (B, 1, H, W), of booleans, is False."""
    height, width = image.shape[-2:]
    if height == width == 1:
        return torch.where(known, image, GREY)
    # Push: the mean of what is known in every 2x2 pixels, which are known as soon as one of them is.
    shares = F.avg_pool2d(known.to(image.dtype), 2, ceil_mode=True, count_include_pad=False)
    means = F.avg_pool2d(image, 2, ceil_mode=True, count_include_pad=False) / shares.clamp(min=0.25)
    coarse = _fill(means, shares > 0)
    # Pull: what is not known comes from the coarser image.
    above = F.interpolate(coarse, size=(height, width), mode='bilinear', align_corners=False)
    return torch.where(known, image, above)
