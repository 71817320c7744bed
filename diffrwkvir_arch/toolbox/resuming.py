"""Training states: what is saved, which one is taken up again, and where in an epoch it goes on."""
import os
import re
from pathlib import Path

import basicsr.train
from basicsr.models.base_model import BaseModel
from basicsr.utils import check_resume
from basicsr.utils.dist_util import master_only

from diffrwkvir_arch.errors import InputError, first_line
from diffrwkvir_arch.option_file import check_beginning
from diffrwkvir_arch.option_sections import look_up
from diffrwkvir_arch.toolbox.checkpoints import read_checkpoint, save_whole
from diffrwkvir_arch.toolbox.images import has_gt, needs_gt
from diffrwkvir_arch.toolbox.locking import hold_experiment
from diffrwkvir_arch.toolbox.logs import warn
from diffrwkvir_arch.toolbox.patching import swap
from diffrwkvir_arch.toolbox.resumed_options import FileOptions, refuse_other_types, types_of


def mend_finding_a_state():
    """Faults of train.py:68-87 and utils/misc.py:116: resuming needs CUDA; `--auto_resume` looks in the current
    directory instead of root_path and, finding nothing there, archives the run it should resume; a truncated newest
    state, one whose networks are missing, or a file named latest.state ends in a traceback.
    Mend: states are tried from newest to oldest on the CPU, with the networks that belong to them.
    """

    def load_resume_state(opt):
        # The first step of a training that looks at, or changes, what an earlier one has left.
        hold_experiment(opt)
        found = newest_usable_state(opt) if opt['auto_resume'] else None
        explicit = opt['path'].get('resume_state')
        if found is None and explicit:
            state = read_checkpoint(explicit, 'path.resume_state')
            if not isinstance(state, dict) or not {'epoch', 'iter', 'optimizers', 'schedulers'} <= set(state):
                raise InputError(f'path.resume_state: {explicit} is not a training state, such as '
                                 'experiments/NAME/training_states/ITERATION.state')
            found = explicit, state
        if found is None:
            if opt['auto_resume']:
                check_beginning(opt)
            return None
        path, state = found
        refuse_other_types(opt, state, path)
        opt['path']['resume_state'] = path
        # Of networks that are not resumed, such as the teacher, check_resume changes which weights are taken, too.
        resumed = {f'param_key_{network.removeprefix("network_")}' for network in saved_networks(opt)}
        kept = {key: value for key, value in opt['path'].items() if key.startswith('param_key') and key not in resumed}
        check_resume(opt, state['iter'])
        opt['path'].update(kept)
        for network in saved_networks(opt):
            use_network_beside_state(opt, network, path)
        # A state of another experiment starts a new folder.
        for key in ('experiments_root', 'models', 'training_states', 'visualization'):
            os.makedirs(opt['path'][key], exist_ok=True)
        opt['resumed_from'] = {key: state.get(key) for key in ('epoch', 'iter', 'epoch_began', 'images_a_step')}
        if opt.get('seed_is_drawn'):
            opt['manual_seed'] = state.get('manual_seed') or opt['manual_seed']
        if opt['rank'] == 0:
            print(f'Resuming from {path} (iteration {state["iter"]}).', flush=True)
        return state

    swap(basicsr.train, 'load_resume_state', load_resume_state)


def newest_usable_state(opt):
    """Searches the experiment's training states from newest to oldest.

    Returns:
        tuple | None: Path and content of the first that can be read and whose networks can be read too; None where
        there is no state at all.

    Raises:
        InputError: There are states, and none can be used: to begin anew would put them away.
    """
    folder = opt['path']['training_states']
    names = os.listdir(folder) if os.path.isdir(folder) else []
    iterations = [int(name.removesuffix('.state')) for name in names if re.fullmatch(r'\d+\.state', name)]
    reason = None
    for iteration in sorted(iterations, reverse=True):
        path = os.path.join(folder, f'{iteration}.state')
        try:
            state = read_checkpoint(path, 'training state')
            for network in saved_networks(opt):
                label = network.removeprefix('network_')
                read_checkpoint(os.path.join(opt['path']['models'], f'net_{label}_{iteration}.pth'), network)
        except InputError as error:
            reason = reason or error
            warn(f'--auto_resume skips {path}: {error}')
        else:
            return path, state
    if reason is not None:
        raise InputError(f'--auto_resume: none of the training states in {folder} can be used, the newest because: '
                         f'{reason}. Without --auto_resume training starts over, and this run is archived beside it')
    warn(f'--auto_resume: no training state in {folder}; starting from iteration 0')
    return None


def saved_networks(opt):
    """The networks of the option file that are saved with each state, as utils/misc.py:114 decides it."""
    ignored = opt['path'].get('ignore_resume_networks') or ()
    return [key for key in opt if key.startswith('network_') and key not in ignored]


def use_network_beside_state(opt, network, state_path):
    """Takes the network from the experiment the state belongs to where this experiment does not have it."""
    key = f'pretrain_{network}'
    path = opt['path'][key]
    if os.path.isfile(path):
        return
    experiment = os.path.dirname(os.path.dirname(os.path.abspath(state_path)))
    beside = os.path.join(experiment, 'models', os.path.basename(path))
    if not os.path.isfile(beside):
        raise InputError(f'path.resume_state: {state_path} needs {os.path.basename(path)}, which is not in '
                         f'{os.path.dirname(path)}')
    opt['path'][key] = beside


def measured_metrics(opt):
    """Name of every validation set -> the metrics that it is measured by."""
    metrics, measured = (opt.get('val') or {}).get('metrics') or {}, {}
    for phase, dataset in opt.get('datasets', {}).items():
        if phase != 'train':
            is_paired = has_gt(dataset, look_up('dataset', dataset['type'], f'datasets.{phase}.type'))
            measured[dataset['name']] = {name for name, metric in metrics.items()
                                         if is_paired or not needs_gt(metric['type'])}
    return measured


def mend_saving_a_state():
    """Faults of models/base_model.py:305-344: a state is written in place (see mend_saving), holds neither the best
    metrics so far nor a seed that was drawn, and says the epoch it was saved in even at that epoch's end, which is then
    trained twice. And every checkpoint of a run stays until the disk is full.
    Mend: all of it is saved, and the epoch is the one the next iteration belongs to, with what tells how much of it was
    seen. logger.keep_last says how many checkpoints stay.
    """

    @master_only
    def save_training_state(self, epoch, current_iter):
        if current_iter == -1:
            return
        began = None
        # Without them where a script saves.
        if 'epoch_entered' in self.opt:
            entered, began = self.opt['epoch_entered']
            epochs = (current_iter - began) // self.opt['iterations_per_epoch']
            epoch, began = entered + epochs, began + epochs * self.opt['iterations_per_epoch']
        best = getattr(self, 'best_metric_results', {})
        state = {
            'epoch': epoch,
            'iter': current_iter,
            'epoch_began': began,
            'images_a_step': self.opt.get('images_a_step'),
            'optimizers': [optimizer.state_dict() for optimizer in self.optimizers],
            'optimizer_types': types_of(self.optimizers),
            'schedulers': [scheduler.state_dict() for scheduler in self.schedulers],
            'best_metric_results': {
                dataset: {
                    metric: {'better': record['better'], 'val': float(record['val']), 'iter': record['iter']}
                    for metric, record in metrics.items()
                }
                for dataset, metrics in best.items()
            },
            'manual_seed': self.opt.get('manual_seed'),
        }
        save_whole(state, os.path.join(self.opt['path']['training_states'], f'{current_iter}.state'))
        remove_older(self.opt['path'], (self.opt.get('logger') or {}).get('keep_last'))

    swap(BaseModel, 'save_training_state', save_training_state)


def remove_older(path, keep):
    """Removes all but the `keep` newest training states (None: none of them) with the networks saved beside them."""
    states, models = Path(path['training_states']), Path(path['models'])
    iterations = sorted(int(file.stem) for file in states.glob('*.state') if file.stem.isdecimal())
    for iteration in iterations[:-keep] if keep else ():
        # The state first: one without its networks is of no use, and would be tried in resuming.
        for file in (states / f'{iteration}.state', *models.glob(f'net_*_{iteration}.pth')):
            file.unlink(missing_ok=True)


def mend_restoring_a_state():
    """Fault: models/base_model.py:346-359 restores optimizers and schedulers alone, so 'Best' starts anew; a state of
    other networks ends in an AssertionError; and what the option file says of optimizers and schedules is overwritten,
    without a word, by what it said before.
    Mend: best metrics come back where the state has them; BasicSR's own states still load. The option file is followed.
    """

    def resume_training(self, resume_state):
        options = FileOptions(self)
        try:
            resume_training.upstream(self, resume_state)
        except (AssertionError, ValueError, KeyError) as error:
            raise InputError(f'{self.opt["path"].get("resume_state")}: this training state belongs to other networks '
                             f'or optimizers than the option file (train.freeze counts): {first_line(error)}; with '
                             'path.pretrain_network_g a new run starts from its network') from None
        options.put_back()
        best = resume_state.get('best_metric_results', {})
        self.best_metric_results = {name: best[name] for name, metrics in measured_metrics(self.opt).items()
                                    if name in best and set(best[name]) == metrics}

    swap(BaseModel, 'resume_training', resume_training)
