"""Where a run puts its networks, and whether two checkpoints or states hold the same."""
import os

import torch


def network_file(opt, name='net_g_3.pth'):
    return os.path.join(opt['path']['models'], name)


def assert_same(one, two):
    """Equal tensors, numbers and text, however nested."""
    if isinstance(one, dict):
        assert one.keys() == two.keys()
    if isinstance(one, (dict, list, tuple)):
        assert len(one) == len(two)
        for key in one if isinstance(one, dict) else range(len(one)):
            assert_same(one[key], two[key])
    else:
        assert torch.equal(one, two) if torch.is_tensor(one) else one == two
