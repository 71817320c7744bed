"""Reading an option file (YAML) and the command line into BasicSR's option dict."""
import contextlib
import os
import random
import re
import sys
import time
from pathlib import Path

import torch
import yaml
from basicsr.utils import options as basicsr_options
from basicsr.utils import set_random_seed
from basicsr.utils.dist_util import get_dist_info, init_dist, master_only

from diffrwkvir_arch import option_file
from diffrwkvir_arch.errors import InputError, did_you_mean, first_line
from diffrwkvir_arch.option_checkpoints import find_checkpoint
from diffrwkvir_arch.option_datasets import expanded_places
from diffrwkvir_arch.ranks import refuse_without_launcher
from diffrwkvir_arch.registration import import_users
from diffrwkvir_arch.toolbox.arguments import drop_local_rank, option_arguments
from diffrwkvir_arch.toolbox.distributed import agree, refuse_in_threads, tell_idle
from diffrwkvir_arch.toolbox.logs import close_logs, warn
from diffrwkvir_arch.toolbox.patching import swap

PACKAGE = Path(option_file.__file__).parent
# Beside the modules where installed, beside the package in a checkout.
SHIPPED_OPTIONS = PACKAGE / 'options' if (PACKAGE / 'options').is_dir() else PACKAGE.parent / 'options'


class OptionLoader(yaml.SafeLoader):
    """Reads `1e-4` as a number, as YAML 1.2 does, and refuses Python objects."""

    def construct_mapping(self, node, deep=False):
        lines = {}
        for key_node, _ in node.value:
            key = str(key_node.value)
            if key in lines and key != '<<':
                warn(f"{node.start_mark.name}: '{key}' is given in line {lines[key]} and again in line "
                     f'{key_node.start_mark.line + 1}; the last one counts')
            lines[key] = key_node.start_mark.line + 1
        return super().construct_mapping(node, deep)


OptionLoader.add_implicit_resolver('tag:yaml.org,2002:float',
                                   re.compile(r'[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$'),
                                   list('-+.0123456789'))


def mend_yaml():
    """Fault: utils/options.py:12-35 hands out PyYAML's loader of YAML 1.1, for which `lr: 1e-4` is text; training then
    ends in "'<=' not supported between 'float' and 'str'". It also runs Python tags found in the file.
    Mend: OptionLoader.
    """

    def ordered_yaml():
        return OptionLoader, ordered_yaml.upstream()[1]

    swap(basicsr_options, 'ordered_yaml', ordered_yaml)


def load_option_file(path):
    """Reads an option file as UTF-8, whatever the locale.

    Returns:
        dict: Its options as written.
    """
    try:
        text = Path(path).read_text(encoding='utf-8-sig')
    except UnicodeDecodeError as error:
        raise InputError(f'{path}: not UTF-8 text (byte {error.start}); give an option file, YAML in UTF-8') from None
    except OSError as error:
        raise InputError(f'-opt: cannot read {path}: {error.strerror}') from None
    try:
        loader = OptionLoader(text)
        loader.name = str(path)
        opt = loader.get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, 'problem_mark', None) or getattr(error, 'context_mark', None)
        line = f', line {mark.line + 1}' if mark else ''
        problem = getattr(error, 'problem', None) or first_line(error)
        raise InputError(f'{path}{line}: not valid YAML: {problem}') from None
    except ValueError as error:
        raise InputError(f'{path}: not valid YAML: {error}') from None
    if not isinstance(opt, dict):
        raise InputError(f'{path}: an option file holds `key: value` lines, this one holds '
                         f'{"nothing" if opt is None else type(opt).__name__}')
    return opt


def find_option_file(path, option='-opt'):
    """The given option file, or the shipped one of that file name where the given path does not exist.

    Args:
        path (str): As the user wrote it.
        option (str): What gave it, for error messages.

    Returns:
        str: A path that exists.
    """
    path = os.path.expanduser(path)
    if os.path.isfile(path):
        return path
    shipped = SHIPPED_OPTIONS / os.path.basename(path)
    if shipped.is_file():
        warn(f'{path} does not exist here; using the shipped {shipped}')
        return str(shipped)
    if os.path.isdir(path):
        raise InputError(f'{option}: {path} is a folder; give an option file (YAML)')
    names = [file.name for file in SHIPPED_OPTIONS.glob('*.yml')]
    raise InputError(f'{option}: {path} does not exist{did_you_mean(os.path.basename(path), names)}')


def parse_value(text):
    """The value of `--force_yml key=text`: none, true, false, a number, a list or section in brackets, else text.

    Words are those of option files, where YAML 1.1 takes yes, no, on and off for booleans.
    """
    text = text.strip()
    if text.startswith('!!float'):
        text = text[len('!!float'):].strip()
    words = {'~': None, 'none': None, 'null': None, 'true': True, 'yes': True, 'on': True, 'false': False, 'no': False,
             'off': False}
    if text.lower() in words:
        return words[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            pass
    if text.startswith('['):
        try:
            return yaml.load(text, Loader=OptionLoader)
        except (yaml.YAMLError, ValueError):
            raise InputError(f'--force_yml: {text} is not a list such as [1, 2]') from None
    # Not '{}' or '{}x4', which are names of files.
    if text.startswith('{') and ': ' in text:
        with contextlib.suppress(yaml.YAMLError, ValueError):
            return yaml.load(text, Loader=OptionLoader)
    return text


def force_option(opt, entry):
    """Sets one option from the command line.

    Args:
        opt (dict): Changed in place. The sections on the way must exist; the key itself need not.
        entry (str): Such as 'train:optim_g:lr=1e-4'.
    """
    path, equals, value = entry.partition('=')
    if not equals:
        raise InputError(f"--force_yml {entry}: write KEY=VALUE, such as train:total_iter=1000")
    *sections, key = [part.strip() for part in path.split(':')]
    section = opt
    for depth, name in enumerate(sections):
        if not isinstance(section.get(name), dict):
            raise InputError(f"--force_yml {entry}: the option file has no section "
                             f"'{':'.join(sections[:depth + 1])}'{did_you_mean(name, section)}")
        section = section[name]
    section[key] = parse_value(value)


# Option file -> the text that goes into the experiment's folder.
to_copy = {}


def mend_parsing():
    """Faults of utils/options.py:80-180: text is read in the locale's encoding; `--force_yml a=/x=y` ends in 'too many
    values to unpack', `a=1e-4` and `a=-1` stay text, `a=[...]` is run as Python, a misspelt key is added silently;
    `num_gpu: 1` without a GPU ends in 'Found no NVIDIA driver'; a missing `path`, `val` or `logger` section in a
    KeyError; unknown options are ignored.
    Mend: own reading, with option_file's checks and defaults in between.
    """

    def parse_options(root_path, is_train=True):
        close_logs()
        args = option_arguments('train' if is_train else 'test').parse_args(drop_local_rank(sys.argv[1:]))
        if args.launcher == 'none':
            refuse_without_launcher()
        import_users(args.imports)
        args.opt = find_option_file(args.opt)
        opt = load_option_file(args.opt)
        for entry in args.force_yml or []:
            force_option(opt, entry)
        # Archiving an earlier run may take the file away before it is copied.
        effective = yaml.safe_dump(opt, sort_keys=False, allow_unicode=True) if args.force_yml else None
        to_copy[args.opt] = effective or Path(args.opt).read_text(encoding='utf-8-sig')
        opt['is_train'] = is_train
        opt['auto_resume'] = args.auto_resume
        option_file.check_options(opt, warn)
        opt['num_gpu'] = usable_gpus(opt['num_gpu'], one_each=args.launcher != 'none')

        opt['dist'] = args.launcher != 'none'
        if is_train and opt['num_gpu'] > 1 and not opt['dist']:
            refuse_in_threads(opt)
            warn(images_a_step(opt))
        if opt['dist']:
            dist_params = dict(opt.get('dist_params') or {})
            if args.launcher == 'pytorch':
                dist_params.pop('port', None)  # torchrun has chosen one
            if opt['num_gpu'] == 0:
                dist_params['backend'] = 'gloo'
            init_dist(args.launcher, **dist_params)
        opt['rank'], opt['world_size'] = get_dist_info()
        if not is_train and opt['world_size'] > 1:
            tell_idle(opt)
        if opt.get('manual_seed') is None:
            # All ranks must shuffle alike.
            opt.update(manual_seed=agree(random.randint(1, 10000)), seed_is_drawn=True)
        set_random_seed(opt['manual_seed'] + opt['rank'])

        if args.debug and not opt['name'].startswith('debug'):
            opt['name'] = 'debug_' + opt['name']
        if is_train and 'debug' in opt['name']:
            opt['val']['val_freq'] = 8
            opt['logger'].update(print_freq=1, save_checkpoint_freq=8)
        add_paths(opt, root_path)
        return opt, args

    swap(basicsr_options, 'parse_options', parse_options)


def usable_gpus(wanted, one_each=False):
    """How many GPUs a process uses: `num_gpu` of the option file, no more than there are.

    Args:
        wanted (int | str): A number or 'auto', which means all.
        one_each (bool): Under a launcher every process has its own GPU, and num_gpu only tells GPU from CPU.
    """
    present = torch.cuda.device_count()
    if wanted == 'auto':
        return present
    if wanted > present and not (one_each and present):
        warn(f'num_gpu: {wanted} asked for, {present} present; using {present or "the CPU"}')
        return present
    return wanted


def images_a_step(opt):
    """What several GPUs of one process make of the batch, which most option files mean for one GPU."""
    gpus, batch = opt['num_gpu'], opt['datasets']['train']['batch_size_per_gpu']
    return (f'num_gpu: {gpus} GPUs x datasets.train.batch_size_per_gpu: {batch} are {gpus * batch} images a step; '
            f'num_gpu: 1 keeps to {batch}, batch_size_per_gpu: {max(1, batch // gpus)} shares them out')


def add_paths(opt, root_path):
    """Adds what BasicSR's pipelines expect: each dataset's phase and scale, and where results go."""
    for key, dataset in opt['datasets'].items():
        dataset['phase'] = key.split('_')[0]
        if 'scale' in opt:
            dataset['scale'] = opt['scale']
        dataset.update(expanded_places(dataset))
    path = opt['path']
    for key, value in path.items():
        if isinstance(value, str) and 'resume_state' in key:
            path[key] = os.path.expanduser(value)
        if isinstance(value, str) and 'pretrain_network' in key:
            path[key] = find_checkpoint(value)
    if opt['is_train']:
        root = os.path.join(root_path, 'experiments', opt['name'])
        path.update(experiments_root=root, models=os.path.join(root, 'models'),
                    training_states=os.path.join(root, 'training_states'))
    else:
        root = os.path.join(root_path, 'results', opt['name'])
        path.update(results_root=root)
    path.update(log=root, visualization=os.path.join(root, 'visualization'))


def mend_copying():
    """Faults of utils/options.py:183-197: the copy of the option file is read and written in the locale's encoding,
    which fails on a name or comment in another script; read after the earlier run was archived, maybe with this file;
    and without what --force_yml changed.
    Mend: UTF-8; the text that was parsed; where options were forced, the options with them, without comments.
    """

    @master_only
    def copy_opt_file(opt_file, experiments_root):
        header = f'# GENERATE TIME: {time.asctime()}\n# CMD:\n# {" ".join(sys.argv)}\n\n'
        text = to_copy.get(opt_file) or Path(opt_file).read_text(encoding='utf-8-sig')
        Path(experiments_root, os.path.basename(opt_file)).write_text(header + text, encoding='utf-8')

    swap(basicsr_options, 'copy_opt_file', copy_opt_file)
