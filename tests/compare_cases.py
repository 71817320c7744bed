"""Tiny networks with their option files and weights, and Ctrl-C, for the tests of `basicsr compare`."""
import contextlib

import pytest
import torch
import yaml
from basicsr.utils.registry import ARCH_REGISTRY

from diffrwkvir_arch.tools.comparison import contest

SCALE = 2
EDSR = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': SCALE}
DIFFUSING = {'type': 'DiffRWKVIRS2', 'scale': SCALE, 'dim': 16, 'groups': 1, 'blocks': 1, 'head_dim': 16,
             'prior_dim': 16, 'encoder_dim': 16, 'upsampler': 'direct'}
# Of scale 1: for images with noise, and for images with holes.
DENOISING = {**DIFFUSING, 'scale': 1}
INPAINTING = {**DENOISING, 'in_channels': 4, 'out_channels': 3}


def build(options, seed):
    torch.manual_seed(seed)
    options = dict(options)
    return ARCH_REGISTRY.get(options.pop('type'))(**options).eval()


def write_method(folder, name, options, seed=0, scale=SCALE, sections=None):
    """NAME.yml, with more sections where they are given, and its weights NAME.pth; -> the path of the option file."""
    torch.save({'params': build(options, seed).state_dict()}, folder / f'{name}.pth')
    path = folder / f'{name}.yml'
    path.write_text(yaml.safe_dump({'name': name, 'scale': scale, 'network_g': options,
                                    'path': {'pretrain_network_g': str(folder / f'{name}.pth')}, **(sections or {})}),
                    encoding='utf-8')
    return str(path)


@contextlib.contextmanager
def interrupted_at_the_fifth(calls, told):
    """Within it Ctrl-C comes when the fifth of `calls` is to be kept, and the message matches `told`."""
    write = contest.write_image

    def stop_at_the_fifth(path, image):
        if len(calls) == 5:
            raise KeyboardInterrupt
        write(path, image)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt, match=told):
        patch.setattr(contest, 'write_image', stop_at_the_fifth)
        yield
