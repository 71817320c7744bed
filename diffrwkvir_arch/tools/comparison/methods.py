"""What is compared: methods without a network, networks of option files, checkpoints."""
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np

from diffrwkvir_arch.errors import InputError, did_you_mean
from diffrwkvir_arch.option_checkpoints import SHIPPED_WEIGHTS, find_checkpoint, made_by
from diffrwkvir_arch.toolbox.checkpoints import read_checkpoint
from diffrwkvir_arch.toolbox.network_options import described
from diffrwkvir_arch.toolbox.options import SHIPPED_OPTIONS, load_option_file

from ..arguments.methods import SHIPPED_SCALE
from ..networks import by_checkpoint, by_option_file, load_weights
from .classical import CLASSICAL, Classical
from .image_sets import digest
from .names import OPTION_SUFFIXES, as_file_name, own_or_shipped, split_label, split_pair
from .network import Network
from .recognition import recognise
from .users_code import code_of, parts_of

# Option files of the weights that come with the package, by scale.
SHIPPED_NAME, SHIPPED_SCALES = 'test_DiffRWKVIR-tiny_S2_x{}.yml', (2, 3, 4)
SCALE_MISSING = '--scale is missing, and neither option file nor checkpoint says it; such as --scale 4'


@dataclass
class Method:
    """A method as the command names it; nothing is read before `identity` or `load`.

    It is either classical, one of CLASSICAL, or a network; a checkpoint alone has its network recognised. `option` is
    where the command named it, for messages. `beside`: the option file was found beside the checkpoint, and counts
    where that does not say itself what network it is of.
    """
    label: str
    option_file: Optional[str] = None
    checkpoint: Optional[str] = None
    classical: Optional[str] = None
    option: str = '--methods'
    beside: bool = False

    @property
    def has_network(self):
        return not self.classical

    @property
    def inpaints(self):
        """What a message about missing masks takes the method for."""
        return 'it inpaints' if self.classical else ('it inpaints (its network takes a mask, as DiffRWKVIR does where '
                                                     'in_channels is out_channels + 1)')

    def identity(self):
        """What a result depends on, as JSON takes it: the network's options and code, and its weights' file.

        Raises:
            InputError: A file is missing, or the option file cannot be used.
        """
        if self.classical:
            return [self.classical]
        recipe, path, key = self.resolve()
        if not os.path.isfile(path):
            raise InputError(f'{path} does not exist{made_by(path)}')
        network = [recipe.arch.__name__, recipe.options, recipe.scale] if recipe else None
        if recipe and (code := code_of(*parts_of(recipe))):
            network.append(code)
        return [network, digest(np.fromfile(path, np.uint8)), key]

    def resolve(self):
        """-> recipe of the network (None where nobody says it), path of its weights, entry to take from that file."""
        if self.option_file is None or self.beside:
            path = find_checkpoint(self.checkpoint)
            if not os.path.isfile(path):
                known = *CLASSICAL, *(shipped.name for shipped in SHIPPED_WEIGHTS.glob('*.pth'))
                raise InputError(f'{path} is a folder' if os.path.isdir(path) else
                                 f'{path} does not exist{did_you_mean(self.checkpoint, known)}')
            said = described(read_checkpoint(path))
            if said or not self.beside:
                return by_checkpoint(path, said) if said else None, path, 'params_ema'
        found = own_or_shipped(self.option_file, self.option)
        options = load_option_file(found)
        recipe, makes_weights = by_option_file(found), 'train' in options
        options = options.get('path') or {}
        path = self.checkpoint or options.get('pretrain_network_g')
        if path is None:
            raise InputError(f'{self.option_file} names no path.pretrain_network_g; add the checkpoint: '
                             f'{self.option_file}:CHECKPOINT')
        # What training starts from is not what it has made.
        key = 'params_ema' if makes_weights and self.checkpoint else options.get('param_key_g', 'params')
        return recipe, find_checkpoint(path), key

    def scale(self, find=None):
        """What its option file or its checkpoint says; of methods that do not enlarge, 1.

        Args:
            find (callable | None): Path of a checkpoint that does not say it -> scale, such as scale_of.

        Raises:
            InputError: Neither says it, or they cannot be used.
        """
        if self.classical:
            if CLASSICAL[self.classical].enlarges:
                raise InputError(SCALE_MISSING)
            return 1
        recipe, path, _ = self.resolve()
        if recipe:
            return recipe.scale
        if find:
            return find(path)
        raise InputError(SCALE_MISSING)

    def load(self, scale, device):
        """Builds it.

        Returns:
            Classical | Network: Ready to restore.

        Raises:
            InputError: It cannot be built, or has another scale.
        """
        if self.classical:
            return Classical(self.classical, scale)
        recipe, path, key = self.resolve()
        if recipe is None:
            net, call, multiple, own_scale, note, channels = recognise(path, scale)
        else:
            own_scale = recipe.said_scale or scale
            if own_scale == scale:
                net = call = load_weights(recipe, read_checkpoint(path), path, key)
                multiple, note, channels = recipe.window, '', recipe.channels
        if own_scale != scale:
            raise InputError(f'it is made for scale {own_scale}, --scale is {scale}')
        net.to(device).eval().requires_grad_(False)
        return Network(net, call, multiple, scale, note, channels)


def parse_method(text, option='--methods'):
    """A name of CLASSICAL, OPTION_FILE, OPTION_FILE:CHECKPOINT or CHECKPOINT, each also as NAME=... -> Method.

    A checkpoint within an experiment's folder that does not say its network is built from the option file that training
    put there.

    Raises:
        InputError: The name cannot be used, or there is a second file where none belongs.
    """
    label, what = split_label(text, option)
    if what in CLASSICAL:
        return Method(label or what, classical=what, option=option)
    first, second = split_pair(what)
    if first.lower().endswith(OPTION_SUFFIXES):
        return Method(label or short_name(Path(first).stem), first, second, option=option)
    if second is not None:
        raise InputError(f'{option} {text}: only an option file takes a second path, OPTION_FILE:CHECKPOINT')
    # experiments/NAME/models/net_g_latest.pth
    path = Path(first).expanduser().absolute()
    beside = path.parent.parent.glob('*.yml') if path.parent.name == 'models' else []
    newest = max(beside, key=os.path.getmtime, default=None)
    name = path.parent.parent.name if newest else path.stem
    return Method(label or short_name(name), str(newest) if newest else None, first, option=option,
                  beside=newest is not None)


def method_or_shipped(text, scale, outscale=None):
    """The Method that -m names, or that of the weights that come with the package.

    Args:
        text (str | None): Of -m.
        scale (int | None): Of --scale; without it the least that comes with the package and reaches outscale.
        outscale (float | None): Of --outscale.

    Raises:
        InputError: The name cannot be used, or no weights of that scale come with the package.
    """
    if text:
        return parse_method(text, '-m')
    if scale is None and outscale:
        scale = min((known for known in SHIPPED_SCALES if known >= outscale), default=max(SHIPPED_SCALES))
    scale = scale or SHIPPED_SCALE
    if scale not in SHIPPED_SCALES:
        raise InputError(f'-m is missing: no weights for --scale {scale} come with the package, only some for --scale '
                         f'{", ".join(map(str, SHIPPED_SCALES))}')
    return parse_method(str(SHIPPED_OPTIONS / SHIPPED_NAME.format(scale)))


def short_name(name):
    """'test_SwinIR_x4' -> 'SwinIR_x4'."""
    return as_file_name(name.removeprefix('test_').removeprefix('train_'))
