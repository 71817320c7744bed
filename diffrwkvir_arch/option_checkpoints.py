"""The checkpoints that option files and commands name: where they are, and what makes those that are missing."""
import os
from pathlib import Path

from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.option_datasets import missing_place_hint

SHIPPED_WEIGHTS = Path(__file__).parent / 'weights'


def find_checkpoint(place):
    """The path of a checkpoint: the given one, or that of the shipped weights where there is nothing but their name."""
    place = os.path.expanduser(place)
    if os.path.exists(place) or os.path.basename(place) != place:
        return place
    shipped = SHIPPED_WEIGHTS / place
    return str(shipped) if shipped.is_file() else place


def made_by(place, maker='training'):
    """The command that makes a missing checkpoint, as the end of a message; empty where its path does not tell."""
    # experiments/NAME/models/net_g_latest.pth, where NAME is also the option file's.
    folder = Path(place).parent
    return f'; {maker} makes it: basicsr train -opt options/{folder.parent.name}.yml' if folder.name == 'models' else ''


def refuse_missing(key, place, maker='training'):
    """Raises InputError where the checkpoint that path.{key} names is not there; `maker`: what makes it."""
    if not os.path.isfile(find_checkpoint(place)):
        raise InputError(f'path.{key}: {place} does not exist{missing_place_hint(key, place)}{made_by(place, maker)}')


def check_checkpoints(opt):
    """The checkpoints that a run starts from must exist: it would find out after it has put an earlier one away."""
    for key, place in opt['path'].items():
        starts = key.startswith('pretrain_network_') if opt['is_train'] else key == 'pretrain_network_g'
        if starts and isinstance(place, str):
            refuse_missing(key, place)
