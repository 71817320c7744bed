"""Networks for one channel: option files alone train, test, restore and compare them; what does not fit is told."""
import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr.archs import build_network
from degradation_cases import NETWORK as DIFFUSING
from drawing import draw
from restore_cases import read

from diffrwkvir_arch import cli
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.option_channels import check_channels
from diffrwkvir_arch.tools.comparison.methods import parse_method
from diffrwkvir_arch.tools.pairs import write_lmdb

SCALE = 2
ONE = {
    'EDSR': {'type': 'EDSR', 'num_in_ch': 1, 'num_out_ch': 1, 'num_feat': 8, 'num_block': 1, 'upscale': SCALE},
    'RCAN': {'type': 'RCAN', 'num_in_ch': 1, 'num_out_ch': 1, 'num_feat': 8, 'num_group': 1, 'num_block': 1,
             'squeeze_factor': 4, 'upscale': SCALE},
    'SwinIR': {'type': 'SwinIR', 'in_chans': 1, 'upscale': SCALE, 'img_size': 16, 'window_size': 8, 'depths': [1],
               'embed_dim': 12, 'num_heads': [2], 'upsampler': 'pixelshuffledirect'},
    'DiffRWKVIRS1': {'type': 'DiffRWKVIRS1', **DIFFUSING, 'scale': SCALE, 'in_channels': 1, 'out_channels': 1},
}


@pytest.fixture
def folders(workdir):
    """gt with grey images of 16 and 8 bits and one in colour, of 48x40; lq with their halves; both as LMDBs, too."""
    pictures = [draw(40, 48, number) for number in range(3)]
    images = {'deep': pictures[0][..., 0].astype(np.uint16) * 257, 'grey': pictures[1][..., 0], 'rgb': pictures[2]}
    for side, step in (('gt', 1), ('lq', SCALE)):
        (workdir / side).mkdir()
        for name, image in images.items():
            assert cv2.imwrite(f'{side}/{name}.png', image[::step, ::step])
        write_lmdb(workdir / side)
    return images


def options(network, color='gray', lmdb=False, name='grey', **changes):
    """An option file of two iterations; DegradationDataset and folders, or PairedImageDataset and LMDBs."""
    data = ({'type': 'PairedImageDataset', 'dataroot_gt': 'gt.lmdb', 'dataroot_lq': 'lq.lmdb'} if lmdb else
            {'type': 'DegradationDataset', 'dataroot_gt': 'gt', 'degradation': {'type': 'bicubic'}}) | {'color': color}
    model = f'{network["type"]}Model' if network['type'].startswith('Diff') else 'RestorationModel'
    opt = {
        'name': name, 'model_type': model, 'scale': SCALE, 'num_gpu': 0, 'manual_seed': 0,
        'datasets': {'train': {**data, 'gt_size': 32, 'use_hflip': True, 'use_rot': True, 'batch_size_per_gpu': 2},
                     'val': {'name': 'val', **data}},
        'network_g': dict(network), 'path': {},
        'train': {'ema_decay': 0.9, 'optim_g': {'type': 'Adam', 'lr': 1e-4}, 'total_iter': 2,
                  'pixel_opt': {'type': 'L1Loss'}, 'scheduler': {'type': 'MultiStepLR', 'milestones': [9]}},
        'val': {'val_freq': 2, 'save_img': True, 'metrics': {
            **{name: {'type': f'calculate_{name}', 'crop_border': SCALE} for name in ('psnr', 'ssim', 'rmse', 'niqe')},
            'psnr_y': {'type': 'calculate_psnr', 'crop_border': SCALE, 'test_y_channel': True}}},
        'logger': {'print_freq': 1, 'save_checkpoint_freq': 2},
    }
    for key, value in changes.items():
        opt[key] |= value
    return opt


def second_stage(first, **changes):
    network = {**first, 'type': 'DiffRWKVIRS2'}
    return options(network, name='second', path={'pretrain_network_s1': 'experiments/grey/models/net_g_latest.pth'},
                   train={'kd_opt': {'type': 'KDL1Loss'}}, **changes)


def run(verb, opt):
    path = f'{verb}_{opt["name"]}.yml'
    with open(path, 'w', encoding='utf-8') as file:
        yaml.safe_dump(opt, file)
    return cli.main([verb, '-opt', path])


def file_for_testing(opt):
    """What `basicsr test` is given for what an option file has trained."""
    opt = {**opt, 'datasets': {'test': opt['datasets']['val']},
           'path': {'pretrain_network_g': f'experiments/{opt["name"]}/models/net_g_latest.pth',
                    'param_key_g': 'params_ema'}}
    del opt['train'], opt['logger']
    opt['val'] = {key: value for key, value in opt['val'].items() if key != 'val_freq'}
    return opt


@pytest.mark.parametrize('lmdb', [False, True])
@pytest.mark.parametrize('name', ONE)
def test_one_channel_is_trained_tested_restored_and_compared_from_option_files_alone(folders, capsys, name, lmdb):
    opt = options(ONE[name], lmdb=lmdb)
    assert run('train', opt) == 0
    if name == 'DiffRWKVIRS1':
        opt = second_stage(ONE[name], lmdb=lmdb)
        assert run('train', opt) == 0
    assert run('test', file_for_testing(opt)) == 0
    output = capsys.readouterr()
    assert 'Traceback' not in output.err + output.out
    saved = read(f'results/{opt["name"]}/visualization/val/deep_{opt["name"]}.png')
    assert saved.shape == (40, 48)
    # The same file and weights by the other commands.
    method = f'train_{opt["name"]}.yml:experiments/{opt["name"]}/models/net_g_latest.pth'
    assert cli.main(['restore', 'lq', '-m', method, '-o', 'restored']) == 0
    restored = {image: read(f'restored/{image}.png') for image in folders}
    assert restored['deep'].shape == restored['grey'].shape == (40, 48) and restored['rgb'].shape == (40, 48, 3)
    assert restored['deep'].dtype == np.uint16
    if lmdb:
        assert np.abs((restored['deep'] / 257.).round() - saved.astype(float)).max() <= 1
    assert cli.main(['compare', '--methods', method, 'bicubic', '--sets', f'train_{opt["name"]}.yml', '--metrics',
                     'psnr_rgb', 'ssim_rgb', '-o', 'compared', '--save-images']) == 0
    label = opt['name']
    assert np.array_equal(read(f'compared/restored/val/{label}/deep.png'), np.dstack([saved] * 3))


def test_holes_of_grey_images_are_filled_by_a_network_of_two_channels(folders, workdir, capsys):
    data = {'type': 'InpaintingDataset', 'dataroot_gt': 'gt', 'mask': {'preset': 'box'}, 'color': 'gray'}
    network = {**ONE['DiffRWKVIRS1'], 'scale': 1, 'in_channels': 2}
    opt = {**options(network), 'scale': 1}
    opt['datasets'] = {'train': {**data, 'gt_size': 32, 'batch_size_per_gpu': 2}, 'val': {'name': 'val', **data}}
    assert run('train', opt) == 0
    second = {**second_stage(network), 'scale': 1, 'datasets': opt['datasets']}
    second['val']['metrics'] = {'psnr': {'type': 'calculate_hole_psnr', 'crop_border': 0}}
    assert run('train', second) == 0
    (workdir / 'masks').mkdir()
    hole = np.zeros((40, 48), np.uint8)
    hole[10:20, 15:30] = 255
    for name in folders:
        cv2.imwrite(f'masks/{name}.png', hole)
    weights = 'experiments/second/models/net_g_latest.pth'
    assert cli.main(['restore', 'gt', '--masks', 'masks', '-m', weights, '-o', 'restored']) == 0
    for name, image in folders.items():
        restored = read(f'restored/{name}.png')
        changed = restored != image
        assert restored.dtype == image.dtype and changed[hole > 0].any() and not changed[hole == 0].any()
    assert cli.main(['compare', '--methods', weights, 'telea', '--sets', 'train_second.yml', '--metrics', 'hole_psnr',
                     '-o', 'compared']) == 0
    del second['datasets']['train']['color']
    assert run('train', second) == 2
    assert ("network_g.in_channels without the mask's: 1 does not fit the 3 channels of the LQ of datasets.train"
            in capsys.readouterr().err.splitlines()[-1])


def test_restore_runs_a_network_for_grey_on_every_channel_and_on_a_grey_image_once(folders, capsys):
    net = build_network(ONE['EDSR'])
    torch.save({'params': net.state_dict(), 'network_options': {'scale': SCALE, 'network': ONE['EDSR']}}, 'net.pth')
    network = parse_method('net.pth').load(SCALE, 'cpu')
    assert network.note == 'each channel by itself'
    lq, calls = torch.rand(1, 3, 12, 9), []
    with torch.no_grad():
        expected = torch.cat([net(lq[:, [c]]) for c in range(3)], dim=1)
        torch.testing.assert_close(network.restore(lq, after_call=lambda: calls.append(1)), expected)
        assert len(calls) == network.calls(lq, None, 0) == 3
        grey = lq[:, :1].expand(1, 3, 12, 9)
        torch.testing.assert_close(network.restore(grey, after_call=lambda: calls.append(1)),
                                   net(lq[:, :1]).expand(1, 3, -1, -1))
        assert len(calls) == 4 and network.calls(grey, None, 0) == 1 and network.calls(grey, 8, 0) == 4
    assert network.count(lq) == network.count(lq[:, :1])


def test_methods_are_not_compared_on_luma_of_which_psnr_y_would_take_the_luma(folders, capsys):
    options_y = options(ONE['EDSR'], color='y')
    torch.save({'params': build_network(ONE['EDSR']).state_dict()}, 'net.pth')
    found = []
    for color in ('y', None):
        options_y['datasets']['val']['color'] = color
        with open('set.yml', 'w', encoding='utf-8') as file:
            yaml.safe_dump(options_y, file)
        found.append(cli.main(['compare', '--methods', 'set.yml:net.pth', '--sets', 'set.yml', '--metrics', 'psnr_y']))
    assert found == [2, 0]
    assert ('datasets.val.color: methods are compared on RGB in [0, 1]; remove it, and a network of one channel '
            'restores each colour by itself, or say color: gray') in capsys.readouterr().err


def test_a_network_for_grey_is_exported_with_one_channel(folders, capsys):
    net = build_network(ONE['EDSR'])
    torch.save({'params': net.state_dict(), 'network_options': {'scale': SCALE, 'network': ONE['EDSR']}}, 'net.pth')
    assert cli.main(['export', '-m', 'net.pth', '-o', 'net.pt2', '--size', '8', '9']) == 0
    assert 'lq (1, 1, 8, 9) -> restored (1, 1, 16, 18)' in capsys.readouterr().out


@pytest.mark.parametrize('name, color, message', [
    ('EDSR', None, 'network_g.num_in_ch: 1 does not fit the 3 channels of the LQ of datasets.train; color: gray or '
     'color: y makes one of three'),
    ('SwinIR', None, 'network_g.in_chans: 1 does not fit the 3 channels of the LQ of datasets.train'),
    ('DiffRWKVIRS1', None, 'network_g.in_channels: 1 does not fit the 3 channels of the LQ'),
    ('RGB', 'gray', 'network_g.num_in_ch: 3 does not fit the 1 channel of the LQ of datasets.train; without '
     'color: gray it has three'),
    ('3 to 1', None, 'network_g.num_out_ch: 1 does not fit the 3 channels of the GT of datasets.train')])
def test_a_network_and_a_dataset_of_other_channels_are_told_before_anything_is_written(folders, workdir, capsys, name,
                                                                                      color, message):
    network = {**ONE, 'RGB': {**ONE['EDSR'], 'num_in_ch': 3, 'num_out_ch': 3},
               '3 to 1': {**ONE['EDSR'], 'num_in_ch': 3}}[name]
    assert run('train', options(network, color=color)) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (workdir / 'experiments').exists()


def test_a_discriminator_of_other_channels_is_told(folders):
    opt = {**options(ONE['EDSR']), 'network_d': {'type': 'UNetDiscriminatorSN', 'num_in_ch': 3}}
    with pytest.raises(InputError, match='network_d.num_in_ch: 3 does not fit the 1 channel of the GT of datasets.tr'):
        check_channels(opt)
    opt['network_d']['num_in_ch'] = 1
    check_channels(opt)


def test_a_validation_set_without_the_training_sets_color_is_told_before_anything_is_written(folders, capsys):
    opt = options(ONE['EDSR'])
    del opt['datasets']['val']['color']
    assert run('train', opt) == 2
    assert 'the 3 channels of the LQ of datasets.val; color: gray or' in capsys.readouterr().err.splitlines()[-1]
