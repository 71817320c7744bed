"""Images of 2, 4 or 8 channels from a dataset of one's own: trained, tested, saved; what does not fit is told."""
import sys

import cv2
import numpy as np
import pytest
import tifffile
import torch
import yaml
from basicsr.models import build_model
from drawing import draw

from diffrwkvir_arch import cli
from diffrwkvir_arch.errors import InputError

CODE = '''
import numpy as np
import torch
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY


@DATASET_REGISTRY.register()
class Bands(torch.utils.data.Dataset):
    def __init__(self, opt):
        self.opt = opt

    def __len__(self):
        return 2

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        gt = rng.random((self.opt['bands'], 32, 40), np.float32)
        return {'lq': torch.from_numpy(gt[:, ::2, ::2].copy()), 'gt': torch.from_numpy(gt), 'lq_path': f'{index}.npy'}


@ARCH_REGISTRY.register()
class Plain(torch.nn.Module):
    """Does not say its channels by a name that is known."""

    def __init__(self, seen, made):
        super().__init__()
        self.body = torch.nn.Conv2d(seen, made * 4, 3, padding=1)

    def forward(self, x):
        return torch.nn.functional.pixel_shuffle(self.body(x), 2)
'''
NETWORKS = {
    'EDSR': lambda bands: {'type': 'EDSR', 'num_in_ch': bands, 'num_out_ch': bands, 'num_feat': 8, 'num_block': 1,
                           'upscale': 2},
    'SwinIR': lambda bands: {'type': 'SwinIR', 'in_chans': bands, 'upscale': 2, 'img_size': 16, 'window_size': 4,
                             'depths': [1], 'embed_dim': 12, 'num_heads': [2], 'upsampler': 'pixelshuffledirect'},
    'DiffRWKVIRS1': lambda bands: {'type': 'DiffRWKVIRS1', 'scale': 2, 'in_channels': bands, 'out_channels': bands,
                                   'dim': 16, 'groups': 1, 'blocks': 1, 'head_dim': 4, 'prior_dim': 16,
                                   'encoder_dim': 8, 'upsampler': 'direct'},
}


@pytest.fixture(autouse=True)
def package(workdir, monkeypatch):
    monkeypatch.setattr(sys, 'path', list(sys.path))
    (workdir / 'own_bands.py').write_text(CODE)
    yield
    from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY
    sys.modules.pop('own_bands', None)
    DATASET_REGISTRY._obj_map.pop('Bands', None)
    ARCH_REGISTRY._obj_map.pop('Plain', None)


def options(network, bands, model='RestorationModel'):
    data = {'type': 'Bands', 'bands': bands}
    return {
        'name': 'bands', 'model_type': model, 'scale': 2, 'num_gpu': 0, 'manual_seed': 0,
        'datasets': {'train': {**data, 'batch_size_per_gpu': 1}, 'val': {'name': 'val', **data}},
        'network_g': network, 'path': {},
        'train': {'optim_g': {'type': 'Adam', 'lr': 1e-4}, 'total_iter': 2, 'pixel_opt': {'type': 'L1Loss'},
                  'scheduler': {'type': 'MultiStepLR', 'milestones': [9]}},
        'val': {'val_freq': 2, 'save_img': True, 'metrics': {
            name: {'type': f'calculate_{name}', 'crop_border': 2} for name in ('psnr', 'ssim', 'rmse', 'sam')}},
        'logger': {'print_freq': 1, 'save_checkpoint_freq': 2},
    }


def run(verb, opt):
    with open('bands.yml', 'w', encoding='utf-8') as file:
        yaml.safe_dump(opt, file)
    return cli.main([verb, '--import', 'own_bands', '-opt', 'bands.yml'])


@pytest.mark.parametrize('bands', [2, 4, 8])
@pytest.mark.parametrize('name', NETWORKS)
def test_a_dataset_of_ones_own_trains_validates_and_tests_any_number_of_channels(name, bands, workdir, capsys):
    network = NETWORKS[name](bands)
    opt = options(network, bands, 'DiffRWKVIRS1Model' if name == 'DiffRWKVIRS1' else 'RestorationModel')
    assert run('train', opt) == 0
    del opt['train'], opt['logger'], opt['datasets']['train'], opt['val']['val_freq']
    opt['path'] = {'pretrain_network_g': 'experiments/bands/models/net_g_latest.pth'}
    assert run('test', opt) == 0
    log = next((workdir / 'results/bands').glob('*.log')).read_text()
    assert all(f'# {metric}: ' in log and f'# {metric}: nan' not in log for metric in opt['val']['metrics'])
    saved = tifffile.imread('results/bands/visualization/val/0_bands.tif')
    assert saved.shape == (32, 40, bands) and saved.dtype == np.uint8
    # Result and GT are measured as they are saved, channels in the network's order.
    errors = [((tifffile.imread(f'results/bands/visualization/val/{number}_bands.tif')
                - (np.random.default_rng(number).random((bands, 32, 40), np.float32) * 255).round().transpose(1, 2, 0))
               [2:-2, 2:-2]**2).mean() for number in (0, 1)]
    assert f'# psnr: {np.mean(10 * np.log10(255**2 / np.array(errors))):.4f}' in log
    cv2.imwrite('photo.png', draw(8, 8, 0))
    assert cli.main(['restore', 'photo.png', '-m', 'experiments/bands/models/net_g_latest.pth']) == 2
    assert f'it makes images of {bands} channels, and here they are RGB or grey' in ''.join(capsys.readouterr())


@pytest.mark.parametrize('model', ['RestorationModel', 'SRModel'])
def test_channels_of_a_dataset_of_ones_own_are_told_before_the_first_iteration(model, workdir, capsys):
    assert run('train', options(NETWORKS['EDSR'](3), 1, model)) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told in [f'basicsr: error: network_g.num_in_ch: 3 does not fit the 1 channel of the LQ of {number}.npy'
                    for number in (0, 1)]
    assert not list((workdir / 'experiments/bands/models').iterdir())


@pytest.mark.parametrize('seen, made, told', [
    (3, 8, 'a convolution for 3 channels got 8: network_g does not fit the dataset, whose LQ has 8'),
    (8, 1, 'network_g gives 1 and the GT of the dataset has 8 channels; they must be as many')])
def test_a_network_of_ones_own_that_does_not_fit_is_one_line(seen, made, told, capsys):
    assert run('train', options({'type': 'Plain', 'seen': seen, 'made': made}, 8)) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f'basicsr: error: {told}'


def test_frames_of_a_video_are_no_channels():
    model = build_model({
        'model_type': 'EDVRModel', 'num_gpu': 0, 'dist': False, 'is_train': False, 'path': {},
        'network_g': {'type': 'EDVR', 'num_feat': 8, 'deformable_groups': 1, 'num_extract_block': 1,
                      'num_reconstruct_block': 1, 'with_tsa': False}})
    model.feed_data({'lq': torch.rand(1, 5, 3, 16, 16), 'gt': torch.rand(1, 3, 64, 64), 'key': '000'})
    with pytest.raises(InputError, match='num_in_ch: 3 does not fit the 1 channel of the LQ'):
        model.feed_data({'lq': torch.rand(1, 5, 1, 16, 16), 'key': '000'})
