"""A resumed run follows its option file; what the saved state cannot be taken up by is refused."""
import os

import torch
from basicsr.models import lr_scheduler
from basicsr.models.base_model import BaseModel
from basicsr.utils.registry import MODEL_REGISTRY

from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.option_sections import is_own
from diffrwkvir_arch.toolbox.logs import warn
from diffrwkvir_arch.toolbox.network_options import plain
from diffrwkvir_arch.toolbox.schedules import set_rates
from diffrwkvir_arch.toolbox.training import make_optimizer
from diffrwkvir_arch.values import is_number

# What names a schedule in a state, and what it is called in option files.
SCHEDULES = {'milestones': 'MultiStepLR', 'periods': 'CosineAnnealingRestartLR'}
SCHEDULE_OPTIONS = ('milestones', 'gamma', 'restarts', 'restart_weights', 'periods', 'eta_min')


def types_of(optimizers):
    """What a state says of its optimizers, so that another one is told from them."""
    return [type(optimizer).__name__ for optimizer in optimizers]


def refuse_other_types(opt, state, path):
    """Raises InputError where the option file has another optimizer or scheduler than the state in `path`."""
    train, model = opt['train'], MODEL_REGISTRY.get(opt['model_type'])
    weights = os.path.join(opt['path']['models'], f'net_g_{state["iter"]}.pth')
    advice = f'; go on with that, or start a run of another name from its weights, path.pretrain_network_g: {weights}'
    # A third party's model may make its own of what the file says.
    if train.get('scheduler') and model.setup_schedulers is BaseModel.setup_schedulers:
        wanted = train['scheduler']['type'].replace('MultiStepRestartLR', 'MultiStepLR')
        for saved in state['schedulers']:
            found = next((name for key, name in SCHEDULES.items() if key in saved), wanted)
            if found != wanted:
                raise InputError(f'train.scheduler.type: {wanted} cannot take up {path}, a state of {found}{advice}')
    if model.get_optimizer is BaseModel.get_optimizer and is_own(getattr(model, 'setup_optimizers', model)):
        sections = [key for key in ('optim_g', 'optim_d') if train.get(key)]
        # BasicSR's states and our earlier ones do not say.
        types = state.get('optimizer_types') or [None] * len(sections)
        for key, saved, name in zip(sections, state['optimizers'], types):
            wanted = train[key]['type']
            if name not in (None, wanted):
                raise InputError(f'train.{key}.type: {wanted} cannot take up {path}, a state of {name}{advice}')
            if not takes_up(f'train.{key}', train[key], saved, known=name is not None):
                raise InputError(f'train.{key}: {wanted} with these options cannot take up {path}, a state of '
                                 f'{"other switches" if name else "another optimizer"}{advice}')


def takes_up(option, section, saved, known):
    """Whether an optimizer can go on from a saved state.

    Args:
        option (str): The section's name.
        section (dict): Its options, with the type.
        saved (dict): As of Optimizer.state_dict.
        known (bool): Whether it is known to be of that type.
    """
    options = dict(section)
    parameter = torch.nn.Parameter(torch.zeros(1, 1))
    parameter.grad = torch.zeros(1, 1)
    optimizer = make_optimizer(option, options.pop('type'), [parameter], options)
    # Switches differ by PyTorch's version too, numbers by optimizer alone.
    numbers = {key for group in saved['param_groups'] for key, value in group.items()
               if key not in ('params', 'initial_lr') and (is_number(value) or isinstance(value, (list, tuple)))}
    if not known and not numbers <= set(optimizer.param_groups[0]):
        return False
    try:
        optimizer.step()
    except (TypeError, RuntimeError):
        return True    # One that steps in another way; PyTorch will say.
    kept = {key for entry in saved['state'].values() for key in entry}
    return not kept or set(optimizer.state[parameter]) <= kept


class FileOptions:
    """What the option file says of a model's optimizers and schedules; made before a state is loaded over it."""

    def __init__(self, model):
        self.model = model
        # Other schedules cannot be set to an iteration: their rates stay those of the state.
        self.schedules = {scheduler: scheduler.state_dict() for scheduler in model.schedulers
                          if isinstance(scheduler, (lr_scheduler.MultiStepRestartLR,
                                                    lr_scheduler.CosineAnnealingRestartLR))}
        scheduled = {id(scheduler.optimizer) for scheduler in self.schedules}
        self.groups = [[{key: value for key, value in group.items()
                         if key != 'params' and (key not in ('lr', 'initial_lr') or id(optimizer) in scheduled)}
                        for group in optimizer.param_groups] for optimizer in model.optimizers]

    def put_back(self):
        """Lets the options of the file take the place of the state's, and says in one line which of them differ."""
        changed = []
        for optimizer, groups in zip(self.model.optimizers, self.groups, strict=True):
            names = [name for name, value in vars(self.model).items() if value is optimizer]
            section = f'train.{names[0].replace("optimizer", "optim")}' if names else 'train.optim'
            for group, wanted in zip(optimizer.param_groups, groups, strict=True):
                changed += changes(section, wanted, group)
                group.update(wanted)
        for scheduler, wanted in self.schedules.items():
            saved = scheduler.state_dict()
            changed += changes('train.scheduler', *({key: attributes[key] for key in SCHEDULE_OPTIONS
                                                     if key in attributes} for attributes in (wanted, saved)))
            progress = {key: saved[key] for key in ('last_epoch', '_step_count')}
            scheduler.load_state_dict({**wanted, **progress})
            go_to_last_epoch(scheduler)
        if changed:
            warn('resuming with the options of the file, which differ from the saved state: '
                 + ', '.join(dict.fromkeys(changed)))


def changes(section, wanted, saved):
    """How options differ from those of a state, such as 'train.optim_g.lr: 0.001 (was 0.002)'."""
    texts = []
    for key in wanted.keys() & saved.keys() - {'lr'}:
        now, before = (readable(options[key]) for options in (wanted, saved))
        if now != before:
            texts.append(f'{section}.{key.replace("initial_lr", "lr")}: {now} (was {before})')
    return sorted(texts)


def readable(value):
    """An option as option files have it: of the milestones a list."""
    return sorted(value.elements()) if hasattr(value, 'elements') else plain(value)


def go_to_last_epoch(scheduler):
    """Sets the rates that the schedule has come to, as if it had been followed from the first iteration on."""
    now = scheduler.last_epoch
    events = {0, *getattr(scheduler, 'milestones', ()), *getattr(scheduler, 'restarts', ())}
    set_rates(scheduler, scheduler.base_lrs)
    for iteration in sorted(event for event in events if event < now) + [now]:
        scheduler.last_epoch = iteration
        set_rates(scheduler, scheduler.get_lr())
    scheduler._last_lr = [group['lr'] for group in scheduler.optimizer.param_groups]
