"""Networks by the name they are registered under or by an option file, and images that their forward takes."""
from pathlib import Path
from typing import Any, NamedTuple, Optional

import torch

from diffrwkvir_arch.errors import InputError, one_line
from diffrwkvir_arch.option_checkpoints import find_checkpoint
from diffrwkvir_arch.option_sections import (CHANNEL_ARGUMENTS, OUT_CHANNEL_ARGUMENTS, SCALE_ARGUMENTS, as_count,
                                             check_network, look_up, require)
from diffrwkvir_arch.signatures import defaults_of, required_arguments
from diffrwkvir_arch.toolbox.checkpoints import check_fit, contents, read_checkpoint, state_dict_in
from diffrwkvir_arch.toolbox.logs import warn
from diffrwkvir_arch.toolbox.network_options import described, differences
from diffrwkvir_arch.toolbox.options import SHIPPED_OPTIONS, find_option_file, load_option_file

WINDOW_ARGUMENTS = ('window_size', )


class Recipe(NamedTuple):
    """How to build a network: arch(**options).

    said_scale: GT side over LQ side, None where nothing says it; window: the sides of its LQ are multiples of this.
    """
    label: str
    arch: Any
    options: dict
    said_scale: Optional[int]
    window: int

    @property
    def scale(self):
        return self.said_scale or 1

    @property
    def channels(self):
        """Of what it makes, and of the LQ without a mask; 3 where nothing says it."""
        return setting(self.arch, self.options, (*OUT_CHANNEL_ARGUMENTS, *CHANNEL_ARGUMENTS)) or 3

    def build(self):
        """The network; InputError where its constructor fails."""
        try:
            return self.arch(**self.options)
        except Exception as error:
            asked = 'these options' if self.options else 'its defaults'
            raise InputError(f'cannot be built with {asked}: {one_line(error)}{shipped_hint(self.label)}') from None


def shipped_hint(name):
    """Ends an error message about a registered name with an option file that describes it, where one is shipped."""
    shipped = sorted(file.name for file in SHIPPED_OPTIONS.glob(f'test_{name}_*.yml'))
    return f'; try -opt {shipped[-1]}' if shipped else ''


def by_name(name):
    """The recipe of a registered network with its defaults.

    Raises:
        InputError: Nothing is registered under that name, or it has no default for some argument.
    """
    arch = look_up('arch', name, 'network')
    needed = required_arguments(arch)
    if needed:
        raise InputError(f'{name} has no default for {", ".join(needed)}; describe it in an option file, '
                         f'basicsr profile -opt FILE{shipped_hint(name)}')
    return Recipe(name, arch, {}, setting(arch, {}, SCALE_ARGUMENTS), setting(arch, {}, WINDOW_ARGUMENTS) or 1)


def by_option_file(path):
    """The recipe of network_g of an option file, or of the shipped one of that name.

    Raises:
        InputError: The file cannot be read, or its network_g does not fit the network.
    """
    path = find_option_file(path)
    return recipe_of(load_option_file(path), path)


def by_checkpoint(path, described):
    """The recipe of a checkpoint's network; `described`: its scale and options, as toolbox/network_options.py has them.

    Raises:
        InputError: The network is not known here.
    """
    scale, options = described
    return recipe_of({'scale': scale, 'network_g': options}, path)


def recipe_of(opt, path):
    """The recipe of network_g of options that were read from `path`."""
    try:
        require(opt, '', ['network_g'])
        if opt.get('scale') is not None:
            as_count(opt, '', 'scale')
        check_network(opt, 'network_g', True, warn)
        options = dict(opt['network_g'])
        arch = look_up('arch', options.pop('type'), 'network_g.type')
    except InputError as error:
        raise InputError(f'{path}: {error}') from None
    scale = opt.get('scale') or setting(arch, options, SCALE_ARGUMENTS)
    return Recipe(Path(path).stem, arch, options, scale, setting(arch, options, WINDOW_ARGUMENTS) or 1)


def load_weights(recipe, checkpoint, path, param_key):
    """The network of a recipe with the weights of a checkpoint, strictly; other options that weights hide are told.

    Args:
        recipe (Recipe): What it should fit.
        checkpoint (dict): What was read from `path`.
        param_key (str | None): The preferred entry; None for a plain state dict.

    Returns:
        nn.Module: On the CPU, in eval mode.

    Raises:
        InputError: It is another network's.
    """
    net = recipe.build()
    weights = weights_of(checkpoint, path, param_key)
    check_fit(net, weights, differences(checkpoint, {'type': recipe.arch.__name__, **recipe.options}), path)
    net.load_state_dict(weights)
    return net.eval()


def weights_of(checkpoint, path, param_key):
    """The state dict in a checkpoint that was read from `path`."""
    weights, _ = state_dict_in(checkpoint, param_key)
    if weights is None:
        raise InputError(f'{path} holds no state dict ({contents(checkpoint)}); path.param_key_g of an option file, '
                         'OPTION_FILE:CHECKPOINT, names the entry that holds it')
    return weights


def from_checkpoint(path):
    """The trained network of a checkpoint, which says itself what network it is of, as those that are trained here do.

    Args:
        path (str): The file, or the name of one that comes with the package, such as 'DiffRWKVIR-tiny_x4.pth'.

    Returns:
        nn.Module: On the CPU, in eval mode, with the EMA's weights where there are any.

    Raises:
        InputError: The file is missing or damaged, or does not say it.
    """
    path = find_checkpoint(path)
    checkpoint = read_checkpoint(path)
    found = described(checkpoint)
    if found is None:
        raise InputError(f'{path} does not say what network it is of; build that from its option file, '
                         'basicsr.archs.build_network(network_g), and load the weights')
    return load_weights(by_checkpoint(path, found), checkpoint, path, 'params_ema')


def taken_by(net):
    """-> whether the forward of a network takes the GT and whether it takes a mask, beside the LQ.

    Raises:
        InputError: It needs something else.
    """
    needed = required_arguments(net.forward)
    if not {*needed[1:]} <= {'gt', 'mask'}:
        raise InputError(f'its forward needs ({", ".join(needed)}); only an LQ, gt and mask can be given')
    # Ours say so; those of other projects that inpaint cannot do without one.
    return 'gt' in needed, getattr(net, 'needs_mask', 'mask' in needed)


def setting(arch, options, names):
    """The whole number that the first of these arguments is set to, or has by default; None where there is none."""
    options = {**defaults_of(arch), **options}
    return next((options[name] for name in names if isinstance(options.get(name), int)), None)


def images_for(net, recipe, shape, device, dtype):
    """Noise in [0, 1], the same for every network: the LQ, and the GT where the network's forward takes one.

    Args:
        shape (tuple of int): (B, C, H, W) of the LQ; grows to whole windows, as RestorationModel pads.

    Returns:
        tuple: The arguments of forward, tensors, of which the GT is (B, C, scale*H, scale*W); and as a dict those that
        it takes by name: the mask (B, 1, H, W), whose right half is the hole, where the network inpaints.

    Raises:
        InputError: forward needs something else.
    """
    reads_gt, needs_mask = taken_by(net)
    sides = [-(-side // recipe.window) * recipe.window for side in shape[2:]]
    sizes = [(*shape[:2], *sides), (*shape[:2], *(recipe.scale * side for side in sides))][:1 + reads_gt]
    generator = torch.Generator().manual_seed(0)
    images = tuple(torch.rand(size, generator=generator).to(device, dtype) for size in sizes)
    if not needs_mask:
        return images, {}
    mask = torch.zeros(shape[0], 1, *sides, device=device, dtype=dtype)
    mask[..., sides[1] // 2:] = 1
    return images, {'mask': mask}
