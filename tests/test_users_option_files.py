"""What BasicSR's users and other projects write in option files passes; what has no effect here is told."""
import copy

import pytest
import torch
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY
from option_cases import checked

from diffrwkvir_arch import option_file
from diffrwkvir_arch.errors import InputError

ADAM = {'type': 'Adam', 'lr': 1e-4, 'weight_decay': 0, 'betas': [0.9, 0.99]}
GAN = {
    'perceptual_opt': {
        'type': 'PerceptualLoss', 'layer_weights': {'conv5_4': 1}, 'vgg_type': 'vgg19', 'use_input_norm': True,
        'range_norm': False, 'perceptual_weight': 1.0, 'style_weight': 0, 'criterion': 'l1'
    },
    'gan_opt': {
        'type': 'GANLoss', 'gan_type': 'vanilla', 'real_label_val': 1.0, 'fake_label_val': 0.0, 'loss_weight': 5e-3
    },
    'net_d_iters': 1,
    'net_d_init_iters': 0,
    'optim_d': ADAM
}
LOADING = {'use_shuffle': True, 'num_worker_per_gpu': 6, 'batch_size_per_gpu': 16, 'dataset_enlarge_ratio': 100,
           'prefetch_mode': None, 'pin_memory': True, 'persistent_workers': True}


@pytest.fixture(autouse=True)
def downloads(monkeypatch, tmp_path):
    """As if VGG's weights could be had."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', lambda url, place, hash_prefix: None)


def as_users_write(options, name):
    """Option files in the style of BasicSR's own and of projects built on it."""
    opt = copy.deepcopy(options)
    opt['logger'] = {'print_freq': 100, 'save_checkpoint_freq': 5e3, 'use_tb_logger': True,
                     'wandb': {'project': None, 'resume_id': None}}
    opt['dist_params'] = {'backend': 'nccl', 'port': 29500}
    opt['train']['optim_g'] = ADAM
    opt['datasets']['train'].update(LOADING, filename_tmpl='{}')
    data = opt['datasets']['train']
    if name == 'SwinIR':
        opt.update(model_type='SwinIRModel', network_g={
            'type': 'SwinIR', 'upscale': 2, 'in_chans': 3, 'img_size': 48, 'window_size': 8, 'img_range': 1.,
            'depths': [6, 6], 'embed_dim': 60, 'num_heads': [6, 6], 'mlp_ratio': 2, 'upsampler': 'pixelshuffledirect',
            'resi_connection': '1conv'
        })
    elif name == 'ESRGAN':
        opt.update(model_type='ESRGANModel', network_g={
            'type': 'RRDBNet', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 64, 'num_block': 23
        }, network_d={'type': 'VGGStyleDiscriminator', 'num_in_ch': 3, 'num_feat': 64})
        opt['train'].update(GAN)
        opt['path'].update(pretrain_network_d=None, strict_load_d=True, param_key_g='params_ema')
        opt['val']['metrics']['niqe'] = {'type': 'calculate_niqe', 'crop_border': 4, 'better': 'lower'}
    elif name == 'EDVR':
        opt.update(model_type='EDVRModel', find_unused_parameters=True, network_g={
            'type': 'EDVR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 64, 'num_frame': 5, 'deformable_groups': 8,
            'num_extract_block': 5, 'num_reconstruct_block': 10, 'center_frame_idx': None, 'hr_in': False,
            'with_predeblur': False, 'with_tsa': True
        })
        opt['train'].update(tsa_iter=50000, dcn_lr_mul=1, total_iter=600000, scheduler={
            'type': 'CosineAnnealingRestartLR', 'periods': [150000] * 4, 'restart_weights': [1] * 4, 'eta_min': 1e-7})
        data.update(type='REDSDataset', dataroot_flow=None, val_partition='REDS4', num_frame=5, interval_list=[1],
                    random_reverse=False)
        opt['datasets']['val'].update(type='VideoTestDataset', cache_data=False, num_frame=5,
                                      padding='reflection_circle')
    elif name == 'StyleGAN2':
        del opt['scale']
        opt.update(model_type='StyleGAN2Model', network_g={
            'type': 'StyleGAN2Generator', 'out_size': 256, 'num_style_feat': 512, 'num_mlp': 8, 'channel_multiplier': 2,
            'resample_kernel': [1, 3, 3, 1], 'lr_mlp': 0.01
        }, network_d={'type': 'StyleGAN2Discriminator', 'out_size': 256, 'channel_multiplier': 2,
                      'resample_kernel': [1, 3, 3, 1]})
        opt['train'].update(GAN, r1_reg_weight=10, path_batch_shrink=2, path_reg_weight=2, net_g_reg_every=4,
                            net_d_reg_every=16, mixing_prob=0.9)
        del opt['train']['perceptual_opt']
        opt['datasets'] = {'train': {'name': 'FFHQ', 'type': 'FFHQDataset', 'dataroot_gt': data['dataroot_gt'],
                                     'io_backend': {'type': 'disk'}, 'use_hflip': True, 'mean': [0.5] * 3,
                                     'std': [0.5] * 3, **LOADING}}
    elif name == 'RealESRGAN':
        second = {f'{key}2': value for key, value in {
            'blur_kernel_size': 21, 'kernel_list': ['iso'], 'kernel_prob': [1], 'sinc_prob': 0.1,
            'blur_sigma': [0.2, 1.5], 'betag_range': [0.5, 4], 'betap_range': [1, 2]}.items()}
        data.update({key[:-1]: value for key, value in second.items()}, **second, final_sinc_prob=0.8,
                    type='RealESRGANDataset')
        degradation = {'resize_prob': [0.2, 0.7, 0.1], 'resize_range': [0.15, 1.5], 'gaussian_noise_prob': 0.5,
                       'noise_range': [1, 30], 'poisson_scale_range': [0.05, 3], 'gray_noise_prob': 0.4,
                       'jpeg_range': [30, 95]}
        opt.update(degradation, **{f'{key}2': value for key, value in degradation.items()}, second_blur_prob=0.8,
                   gt_size=256, queue_size=180, l1_gt_usm=True, percep_gt_usm=True, gan_gt_usm=False,
                   high_order_degradation=True, model_type='RealESRGANModel',
                   network_d={'type': 'UNetDiscriminatorSN', 'num_in_ch': 3, 'num_feat': 64, 'skip_connection': True})
        opt['train'].update(GAN)
    return opt


@pytest.mark.parametrize('name', ['EDSR', 'SwinIR', 'ESRGAN', 'EDVR', 'StyleGAN2', 'RealESRGAN'])
def test_option_files_of_basicsrs_users_pass(options, name, monkeypatch):
    monkeypatch.setattr(option_file, 'has_cuda', lambda: True)
    options['num_gpu'] = 'auto'
    _, warnings = checked(as_users_write(options, name))
    # BasicSR's own file for StyleGAN2 sets net_d_iters, which that model does not read.
    assert [warning for warning in warnings if 'net_d_' not in warning] == []


@pytest.mark.parametrize('num_gpu, present', [(0, True), ('auto', False), (1, False)])
def test_real_esrgans_own_model_needs_a_gpu_and_ours_does_without(options, monkeypatch, num_gpu, present):
    monkeypatch.setattr(option_file, 'has_cuda', lambda: present)
    opt = {**as_users_write(options, 'RealESRGAN'), 'num_gpu': num_gpu}
    with pytest.raises(InputError, match='on a GPU, and there is none; SRGANModel does without, with .*real_esrgan'):
        checked(opt)


@pytest.fixture
def third_party(monkeypatch):
    """A model and a network as a project of its own would register them."""

    class TiledModel(SRModel):

        def test(self):
            return self.opt['tile']['tile_size'], self.opt['network_g'].pop('extra', None)

    class Flexible:

        def __init__(self, upscale=2, **kwargs):
            pass

    TiledModel.__module__ = Flexible.__module__ = __name__
    monkeypatch.setitem(MODEL_REGISTRY._obj_map, 'TiledModel', TiledModel)
    monkeypatch.setitem(ARCH_REGISTRY._obj_map, 'Flexible', Flexible)


def test_third_parties_options_pass_and_what_nobody_reads_is_only_a_warning(options, third_party):
    options.update(model_type='TiledModel', tile={'tile_size': 64, 'tile_pad': 8})
    options['network_g'] = {'type': 'Flexible', 'upscale': 2, 'anything': 1}
    assert checked(options)[1] == []
    # Put together, because this file is the model's source code and must not mention it.
    options['train']['ema_' + 'deacy'] = 0.9
    assert "did you mean 'ema_decay'" in checked(options)[1][0]


def test_an_option_of_another_model_is_a_warning(options):
    options['train']['net_d_iters'] = 1
    (warning, ) = checked(options)[1]
    assert 'train.net_d_iters' in warning and 'no effect with model_type SRModel' in warning


def test_a_file_made_for_hat_is_told_that_tiles_have_no_effect(options):
    options['tile'] = {'tile_size': 64, 'tile_pad': 8}
    (warning, ) = checked(options)[1]
    assert "option 'tile' has no effect with model_type SRModel; HATModel reads it" == warning


def test_a_model_declares_its_own_options_and_refuses_in_time(options, monkeypatch):

    class Declaring(SRModel):
        known_options = {'train': {'x' + 'yz'}}

        @staticmethod
        def check_options(opt):
            raise InputError('not today')

    Declaring.__module__ = 'diffrwkvir_arch.models.declaring'
    monkeypatch.setitem(MODEL_REGISTRY._obj_map, 'Declaring', Declaring)
    options['model_type'] = 'Declaring'
    options['train']['xyz'] = 1
    with pytest.raises(InputError, match='not today'):
        checked(options)
