"""Self-ensemble, the + of EDSR+ and SwinIR+: the mean over an image's eight flips and quarter turns.

Timofte et al., "Seven ways to improve example-based single image super resolution", CVPR 2016.
"""
import torch

# Whether it is flipped, then how many quarter turns.
SYMMETRIES = [(flipped, turns) for flipped in (False, True) for turns in range(4)]


def self_ensemble(restore, *images):
    """Mean of restore(*images), brought back, over the symmetries of the square.

    Args:
        restore (callable): Takes as many tensors; -> (B, C, h, w).
        images (Tensor | None): (B, C, H, W) each, such as LQ, GT and mask; None stays None.

    Returns:
        Tensor: (B, C, h, w), float32.
    """
    total = None
    for flipped, turns in SYMMETRIES:
        turned = (x if x is None else turn(x, flipped, turns) for x in images)
        one = bring_back(restore(*turned).float(), flipped, turns)
        # In place, for these are large; bring_back has made a copy.
        total = one if total is None else total.add_(one)
    return total.div_(len(SYMMETRIES))


def turn(x, flipped, turns):
    """x (..., H, W), flipped left to right or not, then turned; contiguous, as some networks want it."""
    return torch.rot90(x.flip(-1) if flipped else x, turns, (-2, -1)).contiguous()


def bring_back(x, flipped, turns):
    """What `turn` has done, undone."""
    x = torch.rot90(x, -turns, (-2, -1))
    return x.flip(-1) if flipped else x
