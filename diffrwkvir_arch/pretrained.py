"""Weights of the networks behind LPIPS, FID and KID: read from files, never downloaded while a model is trained."""
import pickle
import zipfile
from pathlib import Path

import torch

from diffrwkvir_arch.errors import InputError, first_line


def find_pretrained(url, weights=None):
    """Path of a weights file.

    Args:
        url (str): Where it is published; also says its name in torch.hub's cache.
        weights (str | Path | None): The file; None is for torch.hub's cache, `$TORCH_HOME/hub/checkpoints`.

    Raises:
        InputError: It is not there; the message says what to put where.
    """
    path = Path(weights).expanduser() if weights else Path(torch.hub.get_dir(), 'checkpoints', url.rpartition('/')[2])
    if not path.is_file():
        raise InputError(f'{path} is missing: download {url} and put it there, or name its place as `weights`')
    return path


def load_pretrained(path):
    """State dict of a weights file, on the CPU; refuses a file that holds anything but tensors and plain values."""
    try:
        weights = torch.load(path, map_location='cpu', weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f'{path} is damaged or not a file of weights ({first_line(error)})') from error
    if not isinstance(weights, dict):
        raise InputError(f'{path} holds {type(weights).__name__}, not a state dict')
    return weights
