"""LPIPS (Zhang et al. 2018) as a metric of BasicSR that needs no download."""
import functools

import numpy as np
import torch
from basicsr.utils.registry import METRIC_REGISTRY

from diffrwkvir_arch.device import choose_device
from diffrwkvir_arch.lpips_network import build_lpips, check_backbone, find_backbone

from .contract import Unmeasurable, basicsr_metric, prepare_pair


@METRIC_REGISTRY.register()
@basicsr_metric
def calculate_lpips(img, img2, crop_border, net='alex', input_order='HWC', weights=None, device='auto'):
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
        device (str): 'cpu', 'cuda', 'cuda:1'; 'auto' is for CUDA where there is one.

    Returns:
        float: 0 for equal images, lower is better; nan with a warning where a side is below 31 (alex), 16 (vgg) or 17
        (squeeze) pixels: enlarged, it would be another image.

    Raises:
        InputError: Not two such images of one shape, another net, or no weights where they should be.
    """
    pair = prepare_pair(img, img2, crop_border, input_order)
    device = choose_device(device)
    path, smallest = find_backbone(net, weights)
    height, width = pair[0].shape[:2]
    if min(height, width) < smallest:
        raise Unmeasurable(f'{height}x{width} pixels inside the border; {net} needs {smallest} on each side')
    with torch.no_grad():
        return network_on(net, path, device)(*(_to_tensor(image, device) for image in pair)).item()


def check_options(path, section):
    """Refuses another net, missing weights and a device that is not there."""
    choose_device(section.get('device', 'auto'), f'{path}.device')
    check_backbone(path, section.get('net', 'alex'), section.get('weights'))


calculate_lpips.check_options = check_options


@functools.lru_cache(maxsize=None)
def network_on(net, path, device):
    """The network of LPIPS, built once for each net, file of weights and device."""
    return build_lpips(net, path).to(device)


def _to_tensor(image, device):
    """BGR or grey (H, W, C) in [0, 255] -> RGB (1, 3, H, W) in [-1, 1]."""
    rgb = np.broadcast_to(image[..., ::-1], (*image.shape[:2], 3)) / 127.5 - 1
    return torch.tensor(rgb.transpose(2, 0, 1)[None], dtype=torch.float32, device=device)
