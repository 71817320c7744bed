"""Checks a parsed option file before anything is built: a misspelt option is an error, a missing one gets its default.

What counts as known: the keys listed here, what a model or dataset class declares as `known_options`, the arguments of
networks, losses, optimizers, schedulers and metrics, and, for third parties' sake, whatever the source code of a model
or dataset class mentions as a quoted word: an option that no code reads is a misspelling.
"""
import re

from diffrwkvir_arch.errors import InputError, did_you_mean, unknown_option
from diffrwkvir_arch.option_channels import check_channels
from diffrwkvir_arch.option_checkpoints import check_checkpoints
from diffrwkvir_arch.option_datasets import check_datasets, check_places, has_cuda
from diffrwkvir_arch.option_sections import (as_count, check_metric, check_network, declared, is_own, look_up,
                                             quoted_words, registries, require, resumes, scale_argument)
from diffrwkvir_arch.option_training import check_training
from diffrwkvir_arch.values import check_flag, is_whole

KNOWN = {
    '': {
        'name', 'model_type', 'scale', 'num_gpu', 'manual_seed', 'datasets', 'path', 'train', 'val', 'logger',
        'dist_params', 'find_unused_parameters', 'is_train', 'auto_resume'
    },
    'path': {'resume_state', 'ignore_resume_networks'},
    'train': {
        'total_iter', 'warmup_iter', 'scheduler', 'ema_decay', 'optim_g', 'optim_d', 'pixel_opt', 'perceptual_opt'
    },
    'val': {'val_freq', 'save_img', 'suffix', 'pbar', 'metrics'},
    'logger': {'print_freq', 'save_checkpoint_freq', 'keep_last', 'use_tb_logger', 'wandb'},
    'logger.wandb': {'project', 'resume_id'},
    'dist_params': {'backend', 'port'},
}
# Those that are true or false; strict_load_g and its like are, too.
FLAGS = {'': {'find_unused_parameters'}, 'val': {'save_img', 'pbar'}, 'logger': {'use_tb_logger'}}
# How the options of path begin that each network has.
OF_A_NETWORK = '^(pretrain_network|param_key|strict_load)_'
# What a model's own options belong to.
SECTIONS = ('', 'path', 'train', 'val', 'logger', 'logger.wandb', 'dist_params')
# Options of models that may not be installed here, by section: a file made for them runs, and is told.
KNOWN_ELSEWHERE = {'': {'tile': 'HATModel'}}
# What other projects call a model or an option that is here by another name.
MODELS_ELSEWHERE = {
    **dict.fromkeys(['HATModel', 'MambaIRModel', 'MambaIRv2Model', 'DATModel', 'SwinFIRModel', 'ImageCleanModel',
                     'ImageRestorationModel'], 'RestorationModel'),
    'DiffIRS1Model': 'DiffRWKVIRS1Model', 'DiffIRS2Model': 'DiffRWKVIRS2Model', 'DiffIRS2GANModel': 'DiffRWKVIRGANModel'
}
# BasicSR's models that degrade images on a GPU, and what trains without one.
NEED_CUDA = {'RealESRNetModel': 'RestorationModel', 'RealESRGANModel': 'SRGANModel'}
OPTIONS_ELSEWHERE = {'train.use_grad_clip': 'train.clip_grad_norm of RestorationModel, such as clip_grad_norm: 0.01'}


def check_options(opt, warn):
    """Fills in defaults and refuses what cannot work.

    Args:
        opt (dict): The parsed file plus 'is_train'; changed in place.
        warn (callable): Takes a message about an option without effect, or that only a third party's code could know.

    Raises:
        InputError: Names the option by its path, such as train.ema_decay, and what would work.
    """
    require(opt, '', ['name', 'model_type', 'datasets'] + (['train'] if opt['is_train'] else []))
    check_name(opt['name'])
    fill_defaults(opt)
    model = look_up_model(opt['model_type'])
    own = is_own(model)
    if own and opt['model_type'] in NEED_CUDA and not (opt['num_gpu'] and has_cuda()):
        raise InputError(f"model_type: {opt['model_type']} makes its LQs on a GPU, and there is none; "
                         f"{NEED_CUDA[opt['model_type']]} does without, with datasets.train of type: "
                         'DegradationDataset, degradation: {type: real_esrgan}')
    if own:
        require(opt, '', ['network_g'])
        check_scale(opt)
    for section in SECTIONS:
        check_section(opt, section, model, warn)
    check_datasets(opt, warn)
    for key in opt:
        if key.startswith('network_'):
            check_network(opt, key, own, warn)
    if own:
        check_channels(opt)
    if opt['is_train']:
        check_training(opt, model, own, warn)
    check_metrics(opt, model, warn)
    check_resume_networks(opt)
    # What a model wants to refuse before anything is written; what it asks for may take longer than finding the data.
    if hasattr(model, 'check_options'):
        model.check_options(opt)
    if opt['is_train']:
        check_losses(opt['train'])
    elif own and opt['path'].get('pretrain_network_g') is None:
        warn('path.pretrain_network_g is not given: network_g restores with the random weights that it starts with')
    check_places(opt)
    if not resumes(opt):
        check_checkpoints(opt)


def check_beginning(opt):
    """What a training starts from that was meant to go on, where there is no state that would bring it along."""
    opt = {**opt, 'auto_resume': False}
    model = look_up_model(opt['model_type'])
    if hasattr(model, 'check_options'):
        model.check_options(opt)
    check_checkpoints(opt)


def look_up_model(name):
    """The registered model of that name."""
    if name in MODELS_ELSEWHERE and name not in registries()['model']:
        raise InputError(f"model_type: there is no '{name}' here; use {MODELS_ELSEWHERE[name]} instead")
    return look_up('model', name, 'model_type')


def check_name(name):
    """The name of an experiment, which becomes that of a folder."""
    if not isinstance(name, str):
        raise InputError(f'name: {name!r} is read as a number; put it in quotes')
    if set(name) & set('/\\'):
        raise InputError(f'name: {name!r} names a folder, and may not contain / or \\')


def check_metrics(opt, model, warn):
    """Checks val.metrics, and that the model can measure what belongs to a set as a whole."""
    metrics = opt['val'].get('metrics') or {}
    require(metrics, 'val.metrics', [])
    for name, metric in metrics.items():
        check_metric(f'val.metrics.{name}', metric, warn)
        if hasattr(look_up('metric', metric['type'], ''), 'set_score') and not hasattr(model, 'set_scores'):
            raise InputError(f'val.metrics.{name}: {metric["type"]} measures a set as a whole, {opt["model_type"]} '
                             'measures image by image: use RestorationModel or a model built on it')


def check_scale(opt):
    """The scale is a whole number, and is not left out where the network has one."""
    if opt.get('scale') is not None:
        as_count(opt, '', 'scale')
        return
    require(opt['network_g'], 'network_g', ['type'])
    name, value = scale_argument(opt['network_g'], look_up('arch', opt['network_g']['type'], 'network_g.type'))
    if name and value > 1:
        raise InputError(f'scale is missing, which the datasets need: network_g.{name} is {value}, so write scale: '
                         f'{value}')


def fill_defaults(opt):
    """Adds the optional sections and keys that BasicSR fails without."""
    for section in ('path', 'val', 'logger', 'dist_params', 'train', 'datasets'):
        if section in opt and opt[section] is None:
            opt[section] = {}
        require(opt.get(section, {}), section, [])
    # Such as --force_yml datasets:val_2=~ leaves.
    opt['datasets'] = {phase: dataset for phase, dataset in opt['datasets'].items() if dataset is not None}
    opt.setdefault('path', {})
    opt.setdefault('num_gpu', 'auto')
    if opt['num_gpu'] != 'auto' and not is_whole(opt['num_gpu'], 0):
        raise InputError(f"num_gpu must be 'auto' or a number of at least 0, got {opt['num_gpu']!r}")
    val = opt.setdefault('val', {})
    val.setdefault('suffix', None)
    val.setdefault('metrics', None)
    val.setdefault('save_img', not opt['is_train'])
    if opt['is_train']:
        val.setdefault('val_freq', 5000)
        as_count(val, 'val', 'val_freq')
        logger = opt.setdefault('logger', {})
        for key, value in {'print_freq': 100, 'save_checkpoint_freq': 5000, 'use_tb_logger': False}.items():
            logger.setdefault(key, value)
        as_count(logger, 'logger', 'print_freq')
        as_count(logger, 'logger', 'save_checkpoint_freq')
        if logger.get('keep_last') is not None:
            as_count(logger, 'logger', 'keep_last')


def check_section(opt, path, model, warn):
    """Refuses keys that no registered model reads; warns of those that another model reads and this one does not."""
    section = opt
    for part in filter(None, path.split('.')):
        section = section.get(part) or {}
    require(section, path, [])
    known = KNOWN[path] | declared(model, path)
    for key in section:
        name = f'{path}.{key}' if path else key
        if key in FLAGS.get(path, ()) or path == 'path' and key.startswith('strict_load_'):
            check_flag(name, section[key])
        # A third party's model may put a network's name together.
        if path == '' and key.startswith('network_') and not is_own(model):
            continue
        if path == 'path' and re.match(OF_A_NETWORK, key):
            network = re.sub(OF_A_NETWORK, 'network_', key)
            if network in opt or key in known | quoted_words(model):
                continue
            raise unknown_option(f'path.{key}', known | of_networks(opt), f': the option file has no {network}')
        if key in known:
            continue
        home = home_of(key, model)
        if home is not None:
            message = f"option '{name}' belongs to {home or 'the top level'}, has no effect here"
            if is_own(model):
                raise InputError(f'{message}; check its indentation')
            warn(message)
        if key in quoted_words(model):
            continue
        others = [other for other, cls in registries()['model'] if key in quoted_words(cls) | declared(cls, path)]
        if key in KNOWN_ELSEWHERE.get(path, {}):
            others.insert(0, KNOWN_ELSEWHERE[path][key])
        if others:
            warn(f"option '{name}' has no effect with model_type {model.__name__}; {others[0]} reads it")
        elif is_own(model):
            if name in OPTIONS_ELSEWHERE:
                raise InputError(f"unknown option '{name}': here it is {OPTIONS_ELSEWHERE[name]}")
            raise unknown_option(name, known | of_networks(opt) if path == 'path' else known)
        else:
            warn(f"unknown option '{name}'{did_you_mean(key, known)}")


def of_networks(opt):
    """The options of path that the file's networks have; BasicSR's earlier names are near to them."""
    return {f'{option}_{key.removeprefix("network_")}' for key in opt if key.startswith('network_')
            for option in ('pretrain_network', 'param_key', 'strict_load')}


def home_of(key, model):
    """The section that a model reads an option in, or None for options that no section is known to have."""
    if re.match(OF_A_NETWORK, key):
        return 'path'
    sections = [section for section in SECTIONS if key in KNOWN[section] | declared(model, section)]
    return sections[0] if sections else None


def check_losses(train):
    """What a loss wants to refuse before anything is written, such as weights of its own that are not there."""
    for key, section in train.items():
        if key.endswith('_opt') and isinstance(section, dict) and section.get('type') in registries()['loss']:
            loss = look_up('loss', section['type'], f'train.{key}.type')
            if hasattr(loss, 'check_options'):
                loss.check_options(f'train.{key}', section)


def check_resume_networks(opt):
    """path.ignore_resume_networks names networks of this file."""
    ignored = opt['path'].get('ignore_resume_networks')
    for name in [ignored] if isinstance(ignored, str) else ignored or []:
        if name not in opt:
            raise InputError(f"path.ignore_resume_networks: the option file has no '{name}'{did_you_mean(name, opt)}")
