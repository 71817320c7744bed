"""Which network a checkpoint belongs to: one of the shipped option files', else whatever spandrel recognises."""
import contextlib

import torch

from diffrwkvir_arch.errors import InputError, first_line
from diffrwkvir_arch.toolbox.checkpoints import explain_misfit, read_checkpoint
from diffrwkvir_arch.toolbox.options import SHIPPED_OPTIONS

from ..networks import by_option_file, weights_of

PEERS_HINT = "pip install 'diffrwkvir[peers]'"


def recognise(path, scale):
    """Finds the network of a checkpoint that came without an option file and does not say it.

    Args:
        path (str): The checkpoint.
        scale (int): That of the shipped networks to try.

    Returns:
        tuple: The network with its weights (on the CPU), what maps tensors (the network or a wrapper around it), the
        multiple that sides must be padded to (or None), its scale, a note that says where its settings are from, its
        channels.

    Raises:
        InputError: The file cannot be read, several shipped networks fit, or none.
    """
    weights = weights_of(read_checkpoint(path), path, 'params_ema')
    recipes = fitting_recipes(weights, scale)
    if len(recipes) > 1:
        raise InputError(f'{path} fits the networks of {", ".join(f"{name}.yml" for name in recipes)}, which '
                         f'differ in settings that weights do not show; say which: OPTION_FILE:{path}')
    for name, recipe in recipes.items():
        net = recipe.build()
        net.load_state_dict(weights)
        return net, net, recipe.window, recipe.scale, f'network of {name}.yml', recipe.channels
    return by_spandrel(path, scale)


def scale_of(path):
    """The scale of the network of a checkpoint that came without an option file and does not say it.

    Raises:
        InputError: As `recognise`.
    """
    weights = weights_of(read_checkpoint(path), path, 'params_ema')
    try:
        return by_spandrel(path)[3]    # in a second; building all shipped networks takes many
    except InputError as error:
        unknown = error
    scales = sorted({recipe.scale for recipe in fitting_recipes(weights).values()})
    if not scales:
        raise unknown
    if len(scales) > 1:
        raise InputError(f'--scale is missing: {path} fits networks of scale {" and ".join(map(str, scales))}')
    return scales[0]


def fitting_recipes(weights, scale=None):
    """Name of a shipped option file -> its network's recipe, for those whose names and shapes are the weights'.

    Args:
        scale (int | None): None for all.
    """
    found, known = {}, []
    for file in sorted(SHIPPED_OPTIONS.glob('*.yml')):
        recipe = by_option_file(str(file))
        network = recipe.arch, recipe.options
        if scale in (None, recipe.scale) and network not in known:
            known.append(network)
            if fits(recipe, weights):
                found[recipe.label] = recipe
    return found


def fits(recipe, weights):
    """Whether a network has exactly these weights; False too for one that cannot be built here."""
    # Shapes are all that matters, and some networks are large; a few can only be built for real.
    for device in ('meta', 'cpu'):
        with torch.device(device), contextlib.suppress(InputError):
            return not explain_misfit(recipe.build().state_dict(), weights)
    return False


def by_spandrel(path, scale=None):
    """As `recognise`, for the official checkpoints that spandrel knows; `scale` is what was looked for before."""
    unknown = f'{path}: no shipped option file{f" of scale {scale}" if scale else ""} has its network'
    try:
        import spandrel
    except ImportError:
        raise InputError(f'{unknown}; name its own as OPTION_FILE:{path}, or install spandrel, which recognises many '
                         f'official checkpoints: {PEERS_HINT}') from None
    try:
        descriptor = spandrel.ModelLoader(device='cpu').load_from_file(path)
    except Exception as error:
        reason = first_line(error)
        raise InputError(f'{unknown}, and spandrel cannot read it ({reason}); name its own as '
                         f'OPTION_FILE:{path}') from None
    kinds = spandrel.ImageModelDescriptor, spandrel.MaskedImageModelDescriptor
    channels = descriptor.input_channels, descriptor.output_channels
    if not isinstance(descriptor, kinds) or channels not in ((3, 3), (1, 1)):
        raise InputError(f'{path}: {descriptor.architecture.name} maps neither RGB images to RGB images nor grey to '
                         'grey ones')
    multiple = descriptor.size_requirements.multiple_of
    note = f'{descriptor.architecture.name}, by spandrel'
    return descriptor.model, descriptor, multiple, descriptor.scale, note, channels[0]
