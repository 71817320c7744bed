"""Views between images (B, C, H, W) and row-major token sequences (B, H*W, C), and padding to a multiple."""
import torch.nn.functional as F


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
    bottom, right = -height % multiple, -width % multiple
    if bottom == 0 and right == 0:
        return image
    mode = 'reflect' if bottom < height and right < width else 'replicate'
    return F.pad(image, (0, right, 0, bottom), mode=mode)
