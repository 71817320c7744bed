"""LPIPS (Zhang et al. 2018), version 0.1 of the authors' package, as a metric of BasicSR that needs no download."""
import functools
import warnings

import numpy as np
import torch
from basicsr.utils.registry import METRIC_REGISTRY

from diffrwkvir_arch.errors import InputError

from .contract import Unmeasurable, basicsr_metric, prepare_pair
from .pretrained import choose_device, find_weights, load_weights

# Of each backbone: torchvision's ImageNet weights, and the smallest side that its poolings leave something of.
BACKBONES = {
    'alex': ('https://download.pytorch.org/models/alexnet-owt-7be5be79.pth', 31),
    'vgg': ('https://download.pytorch.org/models/vgg16-397923af.pth', 16),
    'squeeze': ('https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth', 17),
}


@METRIC_REGISTRY.register()
@basicsr_metric
def calculate_lpips(img, img2, crop_border, net='alex', input_order='HWC', weights=None, device=None):
    """Distance of deep features, weighted to agree with human judgement.

    Values of different nets do not compare: call them lpips_alex and lpips_vgg. LaMa and DiffIR use vgg for inpainting;
    super-resolution has no one convention.

    Args:
        img (ndarray): (H, W), (H, W, C) or (C, H, W); C is 1 (three equal channels) or 3 (BGR); uint8 or float in
            [0, 255].
        img2 (ndarray): Of the same shape.
        crop_border (int): Pixels to leave out on each side; usually 0.
        net (str): 'alex', 'vgg' or 'squeeze'.
        input_order (str): 'HWC' or 'CHW'.
        weights (str | None): torchvision's ImageNet weights of that net; None looks in torch.hub's cache.
        device (str | None): Such as 'cuda:1'; None is for CUDA where there is one.

    Returns:
        float: 0 for equal images, lower is better; nan with a warning where a side is below 31 (alex), 16 (vgg) or 17
        (squeeze) pixels: enlarged, it would be another image.

    Raises:
        InputError: Not two such images of one shape, another net, or no weights where they should be.
    """
    if net not in BACKBONES:
        raise InputError(f'net must be one of {", ".join(BACKBONES)}, got {net!r}')
    url, smallest = BACKBONES[net]
    pair = prepare_pair(img, img2, crop_border, input_order)
    height, width = pair[0].shape[:2]
    if min(height, width) < smallest:
        raise Unmeasurable(f'{height}x{width} pixels inside the border; {net} needs {smallest} on each side')
    device = choose_device(device)
    distance = build_lpips(net, find_weights(url, weights), device)
    with torch.no_grad():
        return distance(*(_to_tensor(image, device) for image in pair)).item()


@functools.lru_cache(maxsize=None)
def build_lpips(net, path, device):
    """The package's network, built once for each net, file of weights and device.

    Args:
        net (str): 'alex', 'vgg' or 'squeeze'.
        path (Path): State dict of torchvision's network, whole or its `features` alone.
        device (torch.device): Where it computes.

    Raises:
        InputError: The file is no such state dict.
    """
    import lpips  # Takes a second to import, and most runs measure no LPIPS.
    state = load_weights(path)
    # Built with random numbers, because the package can only download the trained ones; training's own stay untouched.
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter('ignore')
        model = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    # The package's `slice2.3.weight` is torchvision's `features.3.weight`.
    names = {name: 'features.' + name.partition('.')[2] for name in model.net.state_dict()}
    try:
        model.net.load_state_dict({name: state[source] for name, source in names.items()})
    except (KeyError, RuntimeError) as error:
        raise InputError(f'{path} does not hold the weights of torchvision\'s network for net={net}: '
                         f'{str(error).splitlines()[0]}') from error
    return model.to(device)


def _to_tensor(image, device):
    """BGR or grey (H, W, C) in [0, 255] -> RGB (1, 3, H, W) in [-1, 1]."""
    rgb = np.broadcast_to(image[..., ::-1], (*image.shape[:2], 3)) / 127.5 - 1
    return torch.tensor(rgb.transpose(2, 0, 1)[None], dtype=torch.float32, device=device)
