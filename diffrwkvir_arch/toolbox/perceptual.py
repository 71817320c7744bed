"""The perceptual loss on VGG's features."""
import os

import torch
from basicsr.archs.vgg_arch import VGG_PRETRAIN_PATH
from basicsr.losses.basic_loss import PerceptualLoss
from torchvision.models import get_model_weights

from diffrwkvir_arch.errors import InputError, first_line


def mend_weights():
    """Fault: archs/vgg_arch.py:78-83 downloads VGG's weights while the model is built; without network that ends in a
    traceback, and the experiment's folder is there already.
    Mend: they are fetched before anything is written, and where they cannot be, the message says what to put where.
    """
    PerceptualLoss.check_options = staticmethod(fetch_weights)


def fetch_weights(path, section):
    """Sees to the weights that a section `path` of type PerceptualLoss needs."""
    vgg_type = section.get('vgg_type', 'vgg19')
    if not str(vgg_type).startswith('vgg'):
        raise InputError(f'{path}.vgg_type must name a VGG of torchvision, such as vgg19, got {vgg_type!r}')
    if os.path.exists(VGG_PRETRAIN_PATH):
        return
    try:
        url = get_model_weights(vgg_type).IMAGENET1K_V1.url
    except ValueError:
        raise InputError(f'{path}.vgg_type: torchvision has no {vgg_type}, but vgg19, say') from None
    place = os.path.join(torch.hub.get_dir(), 'checkpoints', url.rpartition('/')[2])
    if os.path.exists(place):
        return
    try:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        torch.hub.download_url_to_file(url, place, hash_prefix=url.rpartition('-')[2].partition('.')[0])
    except (OSError, RuntimeError) as error:
        raise InputError(f'{path}: {place} is missing and could not be downloaded ({first_line(error)}); put {url} '
                         'there') from None
