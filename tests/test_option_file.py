"""Option files: what is misspelt, missing or cannot work is named; what is left out gets its default."""
import importlib.util

import pytest
from option_cases import checked, put

from diffrwkvir_arch import option_datasets
from diffrwkvir_arch.errors import InputError


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
    ('model_type', 'HATModel', "there is no 'HATModel' here; use RestorationModel instead"),
    ('model_type', 'DiffIRS2Model', 'use DiffRWKVIRS2Model instead'),
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
    ('datasets.train.gt_size', 17, 'gt_size: 17 is not a multiple of scale 2'),
    ('datasets.train.dataroot_gt', 'nowhere', 'datasets.train.dataroot_gt: nowhere'),
    ('datasets.train.dataroot_gt', ['a', 'b'], 'datasets.train.dataroot_gt takes one folder or LMDB, got a list'),
    ('datasets.val.dataroot_lq', 'nowhere', 'datasets.val.dataroot_lq: nowhere'),
    ('datasets.train.meta_info_file', 'basicsr/data/meta_info/x.txt', 'remove the option'),
    ('datasets.train.prefetch_mode', 'gpu', 'prefetch_mode must be'),
    ('datasets.train.io_backend.type', 'disc', 'io_backend.type must be'),
    ('datasets.train.batch_size_per_gpu', 0, 'batch_size_per_gpu must be'),
    ('network_g.upscale', 4, 'network_g.upscale: 4 differs from scale: 2'),
    ('train.total_iter', 'many', 'train.total_iter must be'),
    ('train.scheduler', {'type': 'CosineAnnealingRestartLR', 'periods': [2, 3]}, 'add up to 5'),
    ('train.scheduler', {'type': 'CosineAnnealingRestartLR', 'periods': [3, 3]}, 'restart_weights'),
    ('train.scheduler.restarts', [0, 4], 'train.scheduler.restart_weights: one weight for each of the 2 restarts'),
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
    ('train.kd_opt', {'type': 'KDLoss', 'temperature': 0}, 'train.kd_opt: KDLoss: temperature must be above 0, got 0'),
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


@pytest.mark.parametrize('option, value, least', [
    ('dim', '128', 1), ('groups', 0, 1), ('head_dim', -16, 1), ('up_dim', 2.5, 1), ('steps', None, 1), ('seed', -1, 0),
    ('encoder_levels', True, 1)])
def test_sizes_of_our_networks_are_whole_numbers(options, option, value, least):
    options.update(model_type='RestorationModel', network_g={'type': 'DiffRWKVIRS2', 'scale': 2, option: value})
    told = f'network_g.{option} must be a whole number of at least {least}, got {value!r}'
    with pytest.raises(InputError, match=told):
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
    train = checked(options)[0]['datasets']['train']
    assert train['prefetch_mode'] == 'cuda' and train['pin_memory'] is True
    options['datasets']['train']['pin_memory'] = False
    with pytest.raises(InputError, match='needs datasets.train.pin_memory: true'):
        checked(options)


def test_an_lmdb_is_recognised_by_its_name(options, tmp_path):
    for side in ('gt', 'lq'):
        (tmp_path / f'{side}.lmdb').mkdir()
        options['datasets']['val'][f'dataroot_{side}'] = str(tmp_path / f'{side}.lmdb')
    del options['datasets']['val']['io_backend']
    assert checked(options)[0]['datasets']['val']['io_backend'] == {'type': 'lmdb'}


@pytest.mark.parametrize('scale, told', [
    ('4', "scale must be a whole number of at least 1, got '4'"), (2.5, 'scale must be a whole number'),
    (0, 'scale must be a whole number'), (None, 'scale is missing.*network_g.upscale is 2, so write scale: 2')])
def test_the_scale_is_a_whole_number_that_is_not_left_out(options, scale, told):
    options['scale'] = scale
    with pytest.raises(InputError, match=told):
        checked(options)
    assert checked({**options, 'scale': 2.})[0]['scale'] == 2


@pytest.mark.parametrize('scale, told', [(2, 'network_g.scale: 4 differs from scale: 2'),
                                         (None, 'network_g.scale is 4, so write scale: 4')])
def test_a_network_of_ours_that_is_left_its_default_scale_has_it(options, scale, told):
    options.update(model_type='DiffRWKVIRS1Model', network_g={'type': 'DiffRWKVIRS1'}, scale=scale)
    with pytest.raises(InputError, match=told):
        checked(options)
