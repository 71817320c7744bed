"""Option files: what is misspelt is named with its nearest known name, what BasicSR's users write passes."""
import copy
import importlib.util

import pytest
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY

from diffrwkvir_arch import option_datasets, option_file
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.option_file import check_options


def put(opt, path, value):
    """Sets an option by its dotted path."""
    *sections, key = path.split('.')
    for section in sections:
        opt = opt.setdefault(section, {})
    opt[key] = value


def checked(opt, is_train=True):
    """The option dict after the check, and the warnings."""
    opt, warnings = copy.deepcopy(opt), []
    opt.update(is_train=is_train, auto_resume=False)
    check_options(opt, warnings.append)
    return opt, warnings


@pytest.mark.parametrize('path, nearest', [
    ('nmae', 'name'),
    ('train.ema_deacy', 'ema_decay'),
    ('train.optim_g.betsa', 'betas'),
    ('train.scheduler.milestone', 'milestones'),
    ('train.pixel_opt.loss_wieght', 'loss_weight'),
    ('val.val_frq', 'val_freq'),
    ('val.metrics.psnr.crop_boarder', 'crop_border'),
    ('logger.print_frequ', 'print_freq'),
    ('logger.wandb.projct', 'project'),
    ('datasets.train.gt_szie', 'gt_size'),
    ('datasets.val.dataroot_lr', 'dataroot_lq'),
    ('network_g.num_feta', 'num_feat'),
    ('path.resume_sate', 'resume_state'),
    ('path.pretrain_model_g', 'pretrain_network_g'),
    ('path.pretrain_network', 'pretrain_network_g'),
    ('path.pretrained_network_g', 'pretrain_network_g'),
    ('path.param_key', 'param_key_g'),
    ('path.strict_load', 'strict_load_g'),
    ('dist_params.backnd', 'backend'),
    ('find_unused_parameter', 'find_unused_parameters'),
])
def test_a_misspelt_option_is_named_with_the_nearest_known_one(options, path, nearest):
    put(options, path, 1)
    with pytest.raises(InputError) as error:
        checked(options)
    assert f"'{path}'" in str(error.value) and f"'{nearest}'" in str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('path, value, message', [
    ('model_type', 'SRModle', "did you mean 'SRModel'"),
    ('network_g.type', 'EDSRR', "did you mean 'EDSR'"),
    ('datasets.train.type', 'PairedImagesDataset', "did you mean 'PairedImageDataset'"),
    ('train.pixel_opt.type', 'L1Los', "did you mean 'L1Loss'"),
    ('val.metrics.psnr.type', 'calculate_psrn', "did you mean 'calculate_psnr'"),
    ('train.optim_g.type', 'AdmaW', "did you mean 'AdamW'"),
    ('train.scheduler.type', 'MultiStepRL', "did you mean 'MultiStepLR'"),
    ('model_type', 'HATModel', "there is no 'HATModel' here; RestorationModel does its work"),
    ('model_type', 'DiffIRS2Model', 'DiffRWKVIRS2Model does its work'),
    ('train.use_grad_clip', True, 'here it is train.clip_grad_norm of RestorationModel'),
    ('datasets.trian', {'type': 'PairedImageDataset'}, "did you mean 'train'"),
])
def test_an_unknown_name_is_answered_with_the_nearest_registered_one(options, path, value, message):
    put(options, path, value)
    with pytest.raises(InputError, match=message):
        checked(options)


@pytest.mark.parametrize('path, value, message', [
    ('name', 2026, 'quotes'),
    ('name', 'mine/x4', "'mine/x4' names a folder"),
    ('ema_decay', 0.9, "'ema_decay' belongs to train"),
    ('metrics', {}, "'metrics' belongs to val"),
    ('pretrain_network_g', 'x.pth', "'pretrain_network_g' belongs to path"),
    ('train.val_freq', 5, "'train.val_freq' belongs to val"),
    ('path.num_gpu', 0, "'path.num_gpu' belongs to the top level"),
    ('path.pretrain_network_g', 'nowhere.pth', 'path.pretrain_network_g: nowhere.pth does not exist'),
    ('manual_seed', -1, 'manual_seed must be a whole number of at least 0'),
    ('train.total_iter', float('inf'), 'train.total_iter must be'),
    ('train.warmup_iter', 'no', 'train.warmup_iter must be'),
    ('train.scheduler.milestones', 4, 'train.scheduler.milestones must be a list'),
    ('datasets.val_2', {'name': 'some', 'type': 'SingleImageDataset'}, "two are named 'some'"),
    ('network_g', {'type': 'DiffRWKVIRS1', 'scale': 2, 'shift': 'omnii'}, 'network_g: DiffRWKVIRS1: shift must be one'),
    ('network_g', {'type': 'DiffRWKVIRS2', 'scale': 2, 'mixer': 'attention', 'head_dim': 24}, 'head_dim must divide'),
    ('datasets.train.gt_size', 17, 'gt_size: 17 is no multiple of scale 2'),
    ('datasets.train.dataroot_gt', 'nowhere', 'datasets.train.dataroot_gt: nowhere'),
    ('datasets.val.dataroot_lq', 'nowhere', 'datasets.val.dataroot_lq: nowhere'),
    ('datasets.train.meta_info_file', 'basicsr/data/meta_info/x.txt', 'take the option out'),
    ('datasets.train.prefetch_mode', 'gpu', 'prefetch_mode must be'),
    ('datasets.train.io_backend.type', 'disc', 'io_backend.type must be'),
    ('datasets.train.batch_size_per_gpu', 0, 'batch_size_per_gpu must be'),
    ('network_g.upscale', 4, 'network_g.upscale: 4 differs from scale: 2'),
    ('train.total_iter', 'many', 'train.total_iter must be'),
    ('train.scheduler', {'type': 'CosineAnnealingRestartLR', 'periods': [2, 3]}, 'add up to 5'),
    ('train.scheduler', {'type': 'CosineAnnealingRestartLR', 'periods': [3, 3]}, 'restart_weights'),
    ('logger.wandb', {'project': 'x'}, 'use_tb_logger'),
    ('num_gpu', -1, 'num_gpu must be'),
    ('path.pretrain_network_s', 'x.pth', 'no network_s'),
    ('path.ignore_resume_networks', ['network_gg'], 'network_gg'),
    ('val.metrics.psnr.crop_border', '4', 'val.metrics.psnr.crop_border must be a whole number of at least 0'),
    ('val.metrics.psnr.crop_border', -4, 'psnr.crop_border must be a whole number'),
    ('val.metrics.psnr.crop_border', None, 'psnr.crop_border must be a whole number'),
    ('val.metrics.psnr.input_order', 'CHWW', 'val.metrics.psnr.input_order must be HWC or CHW'),
    ('train.ema_decay', 1, 'train.ema_decay must be a number of at least 0 and below 1, got 1'),
    ('train.ema_decay', -0.1, 'train.ema_decay must be'),
    ('train.ema_decay', True, 'train.ema_decay must be'),
    ('train.ema_decay', '0.9', 'train.ema_decay must be'),
    ('train.scheduler.milestones', ['4'], 'train.scheduler.milestones must be a list of numbers'),
    ('train.scheduler', {'type': 'CosineAnnealingRestartLR', 'periods': [True, 9]}, 'periods must be a list of num'),
    ('train.scheduler.gamma', 'half', 'train.scheduler.gamma must be a number'),
    ('train.pixel_opt.loss_weight', 'much', 'train.pixel_opt.loss_weight must be a number'),
    ('train.pixel_opt.reduction', 'none', 'train.pixel_opt.reduction must be mean or sum'),
    ('train.optim_g.lr', 'small', 'train.optim_g.lr must be a number'),
    ('train.optim_g.lr', -1, 'train.optim_g: Adam refuses lr: -1'),
    ('datasets.train.gt_size', 0, 'datasets.train.gt_size must be a whole number of at least 1'),
    ('datasets.train.gt_size', '16', 'datasets.train.gt_size must be'),
    ('datasets.train.dataset_enlarge_ratio', 0, 'datasets.train.dataset_enlarge_ratio must be'),
    ('datasets.train.dataset_enlarge_ratio', 1.5, 'datasets.train.dataset_enlarge_ratio must be'),
    ('datasets.train.num_prefetch_queue', 'two', 'datasets.train.num_prefetch_queue must be'),
    ('datasets.train.io_backend', {'typ': 'lmdb'}, "'datasets.train.io_backend.typ' .did you mean 'type'"),
    ('datasets.train.io_backend.readahed', True, 'unknown option'),
    ('val.metrics.psnr.better', 'more', 'higher or lower'),
    ('train', 5, "'train' must be a section"),
    ('network_g', 'EDSR', "'network_g' must be a section"),
    ('datasets.val', 'Set5', "'datasets.val' must be a section"),
    ('val.metrics', ['psnr'], "'val.metrics' must be a section"),
    ('val.metrics.psnr', 4, "'val.metrics.psnr' must be a section"),
    ('train.optim_g', 'Adam', "'train.optim_g' must be a section"),
    ('logger.wandb', 'x', "'logger.wandb' must be a section"),
])
def test_a_value_that_cannot_work_is_refused_with_its_option(options, path, value, message):
    put(options, path, value)
    with pytest.raises(InputError, match=message.replace('[', r'\[')):
        checked(options)


@pytest.mark.parametrize('path', [
    'datasets.train.use_hflip', 'datasets.train.use_rot', 'datasets.train.use_shuffle', 'datasets.train.pin_memory',
    'datasets.val.persistent_workers', 'val.save_img', 'val.pbar', 'val.metrics.psnr.test_y_channel',
    'path.strict_load_g', 'logger.use_tb_logger', 'find_unused_parameters', 'train.optim_g.amsgrad',
    'network_g.use_checkpoint', 'train.compile', 'val.self_ensemble'
])
@pytest.mark.parametrize('value', ['no', 1])
def test_what_is_true_or_false_is_nothing_else(options, path, value):
    options.update(model_type='RestorationModel', network_g={'type': 'DiffRWKVIRS2', 'scale': 2})
    put(options, path, value)
    with pytest.raises(InputError, match=f'{path} must be true or false, got {value!r}'):
        checked(options)


@pytest.mark.parametrize('path', [
    'name', 'model_type', 'datasets', 'train', 'train.total_iter', 'train.optim_g', 'train.optim_g.type',
    'train.scheduler', 'train.pixel_opt.type', 'network_g', 'network_g.type', 'datasets.train.type',
    'datasets.train.batch_size_per_gpu', 'val.metrics.psnr.crop_border'
])
def test_a_missing_option_is_named(options, path):
    *sections, key = path.split('.')
    section = options
    for name in sections:
        section = section[name]
    del section[key]
    with pytest.raises(InputError, match=f'missing option: {path}'):
        checked(options)


def test_without_training_data_there_is_no_training(options):
    del options['datasets']['train']
    with pytest.raises(InputError, match='missing option: datasets.train'):
        checked(options)


def test_options_that_basicsr_fails_without_get_defaults(options):
    for key in ('val', 'logger', 'path', 'num_gpu'):
        del options[key]
    del options['datasets']['val']['io_backend'], options['datasets']['train']['num_worker_per_gpu']
    opt, _ = checked(options)
    assert opt['path'] == {} and opt['num_gpu'] == 'auto'
    assert opt['val'] == {'suffix': None, 'metrics': None, 'save_img': False, 'val_freq': 5000}
    assert opt['logger'] == {'print_freq': 100, 'save_checkpoint_freq': 5000, 'use_tb_logger': False}
    assert opt['datasets']['val']['io_backend'] == {'type': 'disk'}
    assert opt['datasets']['train']['num_worker_per_gpu'] == 0


def test_left_open_values_have_their_meaning(options):
    options['train']['ema_decay'] = options['datasets']['train']['gt_size'] = None
    opt, _ = checked(options)
    assert opt['train']['ema_decay'] == 0 and opt['datasets']['train']['gt_size'] is None


@pytest.mark.parametrize('package, section', [('wandb', {'use_tb_logger': True, 'wandb': {'project': 'x'}}),
                                              ('tensorboard', {'use_tb_logger': True})])
def test_loggers_that_are_not_installed_are_refused_in_time(options, monkeypatch, package, section):
    options['logger'].update(section)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: object() if name == 'wandb' else found(name))
    checked(options)
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name == package else object())
    with pytest.raises(InputError, match=f'logger.* needs {package}, which is not installed: pip install {package}'):
        checked(options)


def test_whole_numbers_may_be_written_as_5e3(options):
    options['train']['total_iter'] = 5e3
    options['val']['val_freq'] = 1e3
    opt, _ = checked(options)
    assert opt['train']['total_iter'] == 5000 and isinstance(opt['val']['val_freq'], int)


def test_a_test_needs_neither_training_options_nor_val(options):
    options['datasets'] = {'test_1': options['datasets']['val']}
    for key in ('train', 'val', 'logger'):
        del options[key]
    opt, _ = checked(options, is_train=False)
    assert opt['val'] == {'suffix': None, 'metrics': None, 'save_img': True}


def test_a_training_file_is_not_tested_by_mistake(options):
    with pytest.raises(InputError, match="'datasets.train': testing takes the datasets"):
        checked(options, is_train=False)


def test_prefetching_to_a_gpu_needs_one_and_pinned_memory(options, monkeypatch):
    options['datasets']['train']['prefetch_mode'] = 'cuda'
    monkeypatch.setattr(option_datasets, 'has_cuda', lambda: False)
    opt, warnings = checked(options)
    assert opt['datasets']['train']['prefetch_mode'] is None and 'needs a GPU' in warnings[0]
    monkeypatch.setattr(option_datasets, 'has_cuda', lambda: True)
    with pytest.raises(InputError, match='needs datasets.train.pin_memory: true'):
        checked(options)
    options['datasets']['train']['pin_memory'] = True
    assert checked(options)[0]['datasets']['train']['prefetch_mode'] == 'cuda'


def test_an_lmdb_is_recognised_by_its_name(options, tmp_path):
    for side in ('gt', 'lq'):
        (tmp_path / f'{side}.lmdb').mkdir()
        options['datasets']['val'][f'dataroot_{side}'] = str(tmp_path / f'{side}.lmdb')
    del options['datasets']['val']['io_backend']
    assert checked(options)[0]['datasets']['val']['io_backend'] == {'type': 'lmdb'}


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


@pytest.mark.parametrize('scale, told', [
    ('4', "scale must be a whole number of at least 1, got '4'"), (2.5, 'scale must be a whole number'),
    (0, 'scale must be a whole number'), (None, 'scale is missing.*network_g.upscale is 2, so scale: 2')])
def test_the_scale_is_a_whole_number_that_is_not_left_out(options, scale, told):
    options['scale'] = scale
    with pytest.raises(InputError, match=told):
        checked(options)
    assert checked({**options, 'scale': 2.})[0]['scale'] == 2


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
