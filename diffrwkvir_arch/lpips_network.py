"""The network of LPIPS (Zhang et al. 2018), version 0.1 of the authors' package, with its backbone read from a file."""
import warnings

import torch

from diffrwkvir_arch.errors import InputError, first_line
from diffrwkvir_arch.pretrained import find_pretrained, load_pretrained

# Of each backbone: torchvision's ImageNet weights, and the smallest side that its poolings leave something of.
BACKBONES = {
    'alex': ('https://download.pytorch.org/models/alexnet-owt-7be5be79.pth', 31),
    'vgg': ('https://download.pytorch.org/models/vgg16-397923af.pth', 16),
    'squeeze': ('https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth', 17),
}


def find_backbone(net, weights=None):
    """Where a backbone's weights are, and what images it takes.

    Args:
        net (str): 'alex', 'vgg' or 'squeeze'.
        weights (str | None): torchvision's ImageNet weights of that net; None looks in torch.hub's cache.

    Returns:
        tuple: Path of the weights and the smallest side of an image in pixels.

    Raises:
        InputError: Another net, or no weights where they should be; the message says what to put where.
    """
    if net not in BACKBONES:
        raise InputError(f'net must be one of {", ".join(BACKBONES)}, got {net!r}')
    url, smallest = BACKBONES[net]
    return find_pretrained(url, weights), smallest


def check_backbone(path, net, weights=None):
    """find_backbone, whose errors name `path`, a section of an option file: before anything is written."""
    try:
        find_backbone(net, weights)
    except InputError as error:
        raise InputError(f'{path}: {error}') from None


def build_lpips(net, path):
    """The package's network, frozen, in eval mode, on the CPU.

    Args:
        net (str): 'alex', 'vgg' or 'squeeze'.
        path (Path): State dict of torchvision's network, whole or its `features` alone.

    Raises:
        InputError: The file is no such state dict.
    """
    import lpips  # Takes a second to import, and most runs measure no LPIPS.
    state = load_pretrained(path)
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
                         f'{first_line(error)}') from error
    return model.requires_grad_(False)
