"""Tiny networks with their option files and weights, for the tests of `basicsr compare`."""
import torch
import yaml
from basicsr.utils.registry import ARCH_REGISTRY

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
