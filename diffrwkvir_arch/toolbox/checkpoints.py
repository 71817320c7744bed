"""Weights to and from files."""
import errno
import io
import os
import pickle
import time
import zipfile

import torch
from basicsr.models.base_model import BaseModel
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import master_only

from diffrwkvir_arch.errors import InputError, first_line, some
from diffrwkvir_arch.toolbox.logs import warn
from diffrwkvir_arch.toolbox.network_options import describe, differences
from diffrwkvir_arch.toolbox.patching import swap


def save_whole(content, path):
    """Saves with torch.save so that `path` holds either the old file or the whole new one, never a part.

    Args:
        content: What torch.save takes.
        path (str): Replaced at the end.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    part = f'{path}.tmp'
    for attempt in range(3):
        try:
            with open(part, 'wb') as file:
                file.write(buffer.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
            return
        except OSError as error:
            if os.path.exists(part):
                os.remove(part)
            # Network drives fail now and then; a full disk stays full.
            if error.errno == errno.ENOSPC:
                raise InputError(f'no space left on device for {path}; earlier files are kept, free some space and '
                                 'go on with --auto_resume') from None
            if attempt == 2:
                raise InputError(f'cannot write {path}: {error.strerror}') from None
            time.sleep(1)


def content_of(model, nets, net_label):
    """What a checkpoint holds.

    Args:
        model (BaseModel): Whose networks they are.
        nets (dict): Entry, such as 'params_ema', -> network.
        net_label (str): Such as 'net_g'.
    """
    content = describe(model.opt, net_label)
    for key, net in nets.items():
        weights = model.get_bare_model(net).state_dict()
        content[key] = {name.removeprefix('module.'): tensor.cpu() for name, tensor in weights.items()}
    return content


def mend_saving():
    """Fault: models/base_model.py:228-245, a checkpoint is written in place, so a full disk or a kill leaves a
    truncated file where a good one was; after three failures training goes on unsaved ('Just ignore it'), and a third
    attempt that succeeds is taken for a failure. And weights do not tell what network they belong to.
    Mend: written whole or not at all, and failing is an error; the network's options are written beside the weights.
    """

    @master_only
    def save_network(self, net, net_label, current_iter, param_key='params'):
        iteration = 'latest' if current_iter == -1 else current_iter
        nets = net if isinstance(net, list) else [net]
        keys = param_key if isinstance(param_key, list) else [param_key]
        path = os.path.join(self.opt['path']['models'], f'{net_label}_{iteration}.pth')
        save_whole(content_of(self, dict(zip(keys, nets, strict=True)), net_label), path)
        if iteration == 'latest':
            get_root_logger().info(f'{net_label} is in {path}')

    swap(BaseModel, 'save_network', save_network)


def read_checkpoint(path, described='checkpoint'):
    """Reads what torch.save or safetensors wrote, on the CPU, tensors and plain values only.

    Args:
        path (str): The file.
        described (str): What error messages call it, such as an option's name.
    """
    if not os.path.isfile(path):
        raise InputError(f'{described}: {path} does not exist')
    if str(path).endswith('.safetensors'):
        return read_safetensors(path, described)
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        if 'GLOBAL' not in str(error) or not zipfile.is_zipfile(path):
            raise InputError(f'{described}: {path} is damaged or not a PyTorch file') from None
        raise InputError(f'{described}: {path} holds Python objects beside tensors, which may run code when loaded; if '
                         'you trust it, torch.load(..., weights_only=False) it and save its tensors alone') from None
    except Exception as error:
        raise InputError(f'{described}: {path} is damaged or not a PyTorch file ({first_line(error)})') from None


def read_safetensors(path, described):
    """As read_checkpoint: a plain state dict."""
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise InputError(f'{described}: {path} needs safetensors: pip install safetensors') from None
    try:
        return load_file(path)
    except Exception as error:
        raise InputError(f'{described}: {path} is damaged or not a safetensors file ({first_line(error)})') from None


def state_dict_in(checkpoint, param_key):
    """The state dict within a checkpoint.

    Args:
        checkpoint (dict): {'params': ..., 'params_ema': ...} as BasicSR saves, or a plain state dict.
        param_key (str | None): The wanted entry; None for a plain state dict.

    Returns:
        tuple: The state dict, without the prefix of a DDP wrapper, and the key it was found under (None for the root);
        (None, None) where there is none.
    """
    if not isinstance(checkpoint, dict):
        return None, None
    for key in (param_key, None, 'params', 'params_ema', 'state_dict'):
        found = checkpoint if key is None else checkpoint.get(key)
        if isinstance(found, dict) and found and all(map(torch.is_tensor, found.values())):
            return {name.removeprefix('module.'): tensor for name, tensor in found.items()}, key
    return None, None


def contents(checkpoint):
    """Such as 'it holds: epoch, model', for an error message."""
    held = list(checkpoint)[:5] if isinstance(checkpoint, dict) else [type(checkpoint).__name__]
    return f'it holds: {", ".join(map(str, held)) or "nothing"}'


def explain_misfit(wanted, found, advice=''):
    """What differs between a network's state dict and a file's, in a few words; empty where they fit.

    advice: What to do where most of it fits.
    """
    missing, unexpected = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    sizes = [name for name in sorted(wanted.keys() & found.keys()) if wanted[name].shape != found[name].shape]
    parts = []
    if missing:
        parts.append(f'lacks {some(sorted(missing), 3)}')
    if unexpected:
        parts.append(f'has {some(sorted(unexpected), 3)} instead')
    if sizes:
        example = sizes[0]
        parts.append(f'differs in size, such as {example}: {tuple(found[example].shape)} in the file, '
                     f'{tuple(wanted[example].shape)} in the network')
    if not parts:
        return ''
    differing = missing | unexpected | set(sizes)
    if len(differing) <= len(wanted) / 2:
        upsampler = ('upsampl', 'up.', 'upconv', 'conv_last', 'tail')
        at_the_end = all(any(word in name for word in upsampler) for name in differing)
        parts.append(f'most of it fits: {"another scale or upsampler" if at_the_end else "other network options"}?'
                     f'{advice}')
    else:
        parts.append('it looks like another network or other network options')
    return '; '.join(parts)


def check_fit(net, weights, made, path, advice=''):
    """Raises InputError where weights do not fit a network, and warns where they hide that it has other options.

    Args:
        net (nn.Module), weights (dict): Its state dict, from a file.
        made (str): How the options of the file's own network differ, as `differences` has it.
        path (str): The file.
        advice (str): See explain_misfit.
    """
    misfit = explain_misfit(net.state_dict(), weights, advice)
    if misfit:
        raise InputError(f'{path} does not fit {type(net).__name__}: it {misfit}'
                         + (f'. Its network has {made}' if made else ''))
    if made:
        warn(f'{path}: its network has {made}; its weights fit all the same')


def mend_loading():
    """Faults of models/base_model.py:276-303: a missing or truncated file ends in a traceback of the unpickler, a plain
    state dict in KeyError: 'params' (BasicSR#253), another network's checkpoint in pages of keys; with `strict=False`
    layers that the file lacks are random twice over, in the network and in its moving average.
    Mend: one line that names the file, the network and the first keys that differ; plain state dicts are read.
    `strict=False` takes what fits and logs the rest, which the moving average has from its network.
    """

    def load_network(self, net, load_path, strict=True, param_key='params'):
        logger = get_root_logger()
        net = self.get_bare_model(net)
        option = next((f'path.{key}' for key, value in self.opt['path'].items() if value == load_path), 'checkpoint')
        checkpoint = read_checkpoint(load_path, option)
        weights, found_key = state_dict_in(checkpoint, param_key)
        if weights is None:
            raise InputError(f"{option}: {load_path} holds no weights under '{param_key}' ({contents(checkpoint)}); "
                             'set path.param_key_g to the entry with the state dict')
        if found_key != param_key:
            logger.info(f"Loading: {load_path} has no '{param_key}', using '{found_key or 'its root'}'.")
        logger.info(f'Loading {net.__class__.__name__} model from {load_path}, with param key: [{found_key}].')
        made = differences(checkpoint, self.opt.get('network_d' if option.endswith('_d') else 'network_g'))
        if strict or not explain_misfit(net.state_dict(), weights):
            check_fit(net, weights, made, f'{option}: {load_path}', ' path.strict_load_g: false takes what fits')
        else:
            self._print_different_keys_loading(net, weights, strict)
            if net is getattr(self, 'net_g_ema', None):
                # BasicSR has built it with random weights of its own.
                self.model_ema(0)
        net.load_state_dict(weights, strict=strict)

    swap(BaseModel, 'load_network', load_network)
