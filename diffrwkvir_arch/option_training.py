"""Checks what an option file says of training: losses, optimizers, and a schedule that lasts as long as it."""
import importlib.util

from diffrwkvir_arch.errors import InputError, did_you_mean
from diffrwkvir_arch.option_sections import (PLUGIN, as_count, check_arguments, is_own, look_up, package_of,
                                             refuse_unbuildable, registries, require)
from diffrwkvir_arch.values import is_number


def check_training(opt, model, own, warn):
    """Checks the section train, and what it needs of others."""
    from basicsr.models.base_model import BaseModel
    train = opt['train']
    require(train, 'train', ['total_iter'])
    as_count(train, 'train', 'total_iter')
    for section, path, key in ((train, 'train', 'warmup_iter'), (opt, '', 'manual_seed')):
        if section.get(key) is not None:
            # -1 is BasicSR's word for no warm-up.
            as_count(section, path, key, minimum=-1 if key == 'warmup_iter' else 0)
    check_ema_decay(train)
    check_logger(opt['logger'])
    if own:
        require(train, 'train', ['optim_g', 'scheduler'])
    for key, section in train.items():
        path = f'train.{key}'
        if own and section is not None and (key.endswith('_opt') or key.startswith('optim_')):
            require(section, path, ['type'])
        if not (isinstance(section, dict) and 'type' in section):
            continue
        if key.endswith('_opt') and (own or section['type'] in registries()['loss']):
            check_loss(path, section, own, warn)
        if key.startswith('optim_') and model.get_optimizer is BaseModel.get_optimizer:
            check_optimizer(path, section, warn)
    if own:
        require(train['scheduler'], 'train.scheduler', ['type'])
    if train.get('scheduler') is not None and model.setup_schedulers is BaseModel.setup_schedulers:
        check_scheduler(train, warn)


def check_logger(logger):
    """Checks that what the log is copied to is there."""
    project = (logger.get('wandb') or {}).get('project')
    if project and not logger['use_tb_logger']:
        raise InputError('logger.wandb needs logger.use_tb_logger: true, because it copies what TensorBoard gets')
    for package, option, wanted in (('wandb', 'wandb.project', project),
                                    ('tensorboard', 'use_tb_logger', logger['use_tb_logger'])):
        if wanted and importlib.util.find_spec(package) is None:
            raise InputError(f'logger.{option}: {wanted} needs {package}, which is not installed: pip install '
                             f'{package}')


def check_ema_decay(train):
    """Checks the decay of the moving average, 0 for none."""
    if train.get('ema_decay') is None:
        train['ema_decay'] = 0
    decay = train['ema_decay']
    if not is_number(decay) or not 0 <= decay < 1:
        raise InputError(f'train.ema_decay must be a number of at least 0 and below 1, got {decay!r}')


def check_loss(path, section, own, warn):
    """Checks one loss."""
    loss = look_up('loss', section['type'], f'{path}.type')
    check_arguments(path, section, loss, warn, strict=own)
    # A loss of each pixel, 'none', cannot be minimised.
    if is_own(loss) and section.get('reduction', 'mean') not in ('mean', 'sum'):
        raise InputError(f"{path}.reduction must be mean or sum, got {section['reduction']!r}")
    # One that has files to read says by itself what it lacks, see option_file.check_losses.
    if package_of(loss) == PLUGIN and not hasattr(loss, 'check_options'):
        refuse_unbuildable(path, section, loss)


def check_optimizer(path, section, warn):
    """Checks an optimizer of torch.optim, which refuses values when it is made."""
    import torch

    from diffrwkvir_arch.toolbox.training import find_optimizer, make_optimizer
    optimizer = find_optimizer(section['type'], f'{path}.type')
    check_arguments(path, section, optimizer, warn, strict=True, left_out=('params', ))
    options = {key: value for key, value in section.items() if key != 'type'}
    make_optimizer(path, section['type'], [torch.nn.Parameter(torch.zeros(1, 1))], options)


def check_scheduler(train, warn):
    """Checks one of BasicSR's schedulers."""
    from basicsr.models import lr_scheduler
    classes = {
        'MultiStepLR': lr_scheduler.MultiStepRestartLR,
        'MultiStepRestartLR': lr_scheduler.MultiStepRestartLR,
        'CosineAnnealingRestartLR': lr_scheduler.CosineAnnealingRestartLR
    }
    scheduler = train['scheduler']
    if scheduler['type'] not in classes:
        raise InputError(f"train.scheduler.type: unknown scheduler '{scheduler['type']}'"
                         f"{did_you_mean(scheduler['type'], classes)}; choose from {', '.join(classes)}")
    check_arguments('train.scheduler', scheduler, classes[scheduler['type']], warn, strict=True,
                    left_out=('optimizer', 'last_epoch'))
    for key in ('milestones', 'periods', 'restarts', 'restart_weights'):
        value = scheduler.get(key, [])
        if not isinstance(value, list):
            raise InputError(f'train.scheduler.{key} must be a list such as [{value}], got {value!r}')
        if not all(map(is_number, value)):
            raise InputError(f'train.scheduler.{key} must be a list of numbers, got {value!r}')
    for key in ('gamma', 'eta_min'):
        if not is_number(scheduler.get(key, 0)):
            raise InputError(f'train.scheduler.{key} must be a number, got {scheduler[key]!r}')
    name = 'periods' if scheduler['type'] == 'CosineAnnealingRestartLR' else 'restarts'
    parts = scheduler.get(name, [0])
    # Past the last period BasicSR's scheduler ends in a TypeError.
    if name == 'periods' and sum(parts) < train['total_iter']:
        raise InputError(f"train.scheduler.periods: {parts} add up to {sum(parts)}, less than train.total_iter "
                         f"{train['total_iter']}")
    if len(scheduler.get('restart_weights', [1])) != len(parts):
        raise InputError(f'train.scheduler.restart_weights: one weight for each of the {len(parts)} {name} is needed')
