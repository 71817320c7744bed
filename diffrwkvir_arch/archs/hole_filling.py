"""Push-pull interpolation (Gortler et al. 1996): what surrounds a hole flows into it, smoothly and in linear time."""
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
    hole = mask > 0.5
    known = (~hole).to(image.dtype)
    return _fill(torch.where(hole, 0, image), known)


def _fill(image, known):
    """image is 0 where known is 0; known in [0, 1] is how much of a pixel's area is known."""
    height, width = image.shape[-2:]
    if height == width == 1:
        return torch.where(known > 0, image, GREY)
    # Push: the mean of what is known in every 2x2 pixels; a quarter that is known counts for the whole.
    weights = F.avg_pool2d(known, 2, ceil_mode=True, count_include_pad=False)
    means = F.avg_pool2d(image * known, 2, ceil_mode=True, count_include_pad=False) / weights.clamp(min=1e-6)
    coarse = _fill(means, (4 * weights).clamp(max=1))
    # Pull: what is not known comes from the coarser image.
    above = F.interpolate(coarse, size=(height, width), mode='bilinear', align_corners=False)
    return image * known + above * (1 - known)
