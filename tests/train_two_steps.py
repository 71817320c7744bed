"""Two steps of a model on a fixed batch of four, which processes share out; torchrun starts this file from a test.

    train_two_steps.py WEIGHTS.pth MODULE FUNCTION    with the options that this function of a test module returns
"""
import importlib
import sys
from pathlib import Path
from unittest import mock

import diffrwkvir_arch  # noqa: F401
import torch
from basicsr.models import build_model
from basicsr.utils.dist_util import get_dist_info, init_dist

sys.path.insert(0, str(Path(__file__).parent))


def two_steps(opt, rank=0, world_size=1):
    """What two steps leave; -> dict of the state dicts of the model's networks by name, and of `losses`, the last."""
    opt = {**opt, 'is_train': True, 'dist': world_size > 1, 'rank': rank, 'world_size': world_size}
    opt['path'] = {**opt['path'], 'models': 'unused', 'training_states': 'unused'}
    torch.manual_seed(0)
    model = build_model(opt)
    # Every process draws the same start noise for an image, whatever else it has in its batch.
    noise = torch.Generator().manual_seed(1)
    side = 8 * opt['scale']
    images = {'lq': torch.rand(4, 3, 8, 8, generator=noise), 'gt': torch.rand(4, 3, side, side, generator=noise)}
    if opt['network_g'].get('in_channels') == 4:
        # Holes of another size in every image.
        share = torch.tensor([0.1, 0.3, 0.6, 0.9]).reshape(4, 1, 1, 1)
        images['mask'] = (torch.rand(4, 1, 8, 8, generator=noise) < share).float()
    with mock.patch('torch.randn_like', torch.zeros_like):
        for step in (1, 2):
            model.feed_data({name: image[rank::world_size] for name, image in images.items()})
            model.optimize_parameters(step)
    nets = {label: net for label, net in vars(model).items() if label in ('net_g', 'net_d')}
    return {'losses': model.log_dict, **{label: model.get_bare_model(net).state_dict() for label, net in nets.items()}}


if __name__ == '__main__':
    init_dist('pytorch')
    options = getattr(importlib.import_module(sys.argv[2]), sys.argv[3])
    weights = two_steps(options(Path.cwd()), *get_dist_info())
    if get_dist_info()[0] == 0:
        torch.save(weights, sys.argv[1])
    torch.distributed.destroy_process_group()
