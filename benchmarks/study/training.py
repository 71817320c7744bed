"""One run: a method, a seed and a budget, trained by the project's own models and resumable at any iteration."""
import time
from pathlib import Path
from typing import NamedTuple

from basicsr.models import build_model
from basicsr.utils import set_random_seed

from diffrwkvir_arch.tools.call_cost import milliseconds
from diffrwkvir_arch.tools.scores import mean_rows
from diffrwkvir_arch.toolbox.checkpoints import read_checkpoint, save_whole
from diffrwkvir_arch.toolbox.stopping import stop_request

from .methods import SCALE
from .patches import checksum
from .scoring import first_set, model_rows

CHECKPOINT_SECONDS = 120
WARM_UP = 0.03      # of the iterations of a stage, in which the learning rate rises
LAST_RATE = 0.01    # of the learning rate, where its cosine ends
POINTS = 8          # of a curve


class Iterations(NamedTuple):
    """A stage ends after `count` iterations."""
    count: int

    def spent(self, done, seconds):
        """The part of the budget that is used up; 1 or more at its end."""
        return done / self.count

    def total(self, done, seconds):
        """How many iterations there will have been at the end; more than are done."""
        return self.count


class Seconds(NamedTuple):
    """A stage ends with the first step that makes `amount` seconds full; first_guess: seconds of a step."""
    amount: float
    first_guess: float

    def spent(self, done, seconds):
        return seconds / self.amount

    def total(self, done, seconds):
        rate = seconds / done if done else self.first_guess
        return max(done + 1, round(self.amount / rate))


class Job(NamedTuple):
    """stages: see methods; limits: Iterations or Seconds of each; folder: of checkpoint and weights."""
    stages: list
    limits: list
    seed: int
    learning_rate: float
    folder: Path


def stage_options(job, number, total, device):
    """What the option file of a stage would say, as BasicSR hands it to a model."""
    stage = job.stages[number]
    return {
        'model_type': stage['model_type'], 'scale': SCALE, 'num_gpu': int(device.type == 'cuda'), 'is_train': True,
        'dist': False, 'manual_seed': job.seed, 'network_g': stage['network_g'],
        'path': {'pretrain_network_s1': str(weights_file(job, 0)), 'param_key_s1': 'params', 'models': str(job.folder)},
        'train': {
            'ema_decay': 0, 'clip_grad_norm': 1.,
            # On CPUs Adam otherwise updates one tensor after the other.
            'optim_g': {'type': 'Adam', 'lr': job.learning_rate, 'betas': [0.9, 0.99], 'fused': True},
            'scheduler': {'type': 'CosineAnnealingRestartLR', 'periods': [total], 'restart_weights': [1],
                          'eta_min': LAST_RATE * job.learning_rate},
            'pixel_opt': {'type': 'L1Loss', 'loss_weight': 1.}, 'kd_opt': stage.get('kd_opt')}}


def weights_file(job, number):
    """Where a stage leaves its weights, for the next one and for whoever wants to look at them."""
    return job.folder / f'stage{number + 1}.pth'


def build(job, number, device):
    """The model of a stage, initialised from the seed and, where there is one, the stage before."""
    set_random_seed(job.seed)
    return build_model(stage_options(job, number, job.limits[number].total(0, 0.), device))


def step(model, batch, iteration, total):
    """One iteration of BasicSR's training loop; the cosine ends at `total`, which a budget of time estimates anew."""
    for scheduler in model.schedulers:
        scheduler.periods = scheduler.cumulative_period = [total]
    model.update_learning_rate(iteration, warmup_iter=round(WARM_UP * total))
    model.feed_data(batch)
    model.optimize_parameters(iteration)


def run(job, patches, images, device):
    """Trains all stages and scores the last.

    A first call that is interrupted leaves a checkpoint; the next goes on from there.

    Args:
        job (Job), patches (Patches), images (list of HeldOutImage), device (torch.device).

    Returns:
        dict: iterations and seconds of each stage; fed, a checksum of all batches; curve, rows of iteration, seconds
        and psnr_y on the first set, of the last stage only, because the first of two sees the GT; scores, rows of
        model_rows.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    file = job.folder / 'run.state'
    state = read_checkpoint(file) if file.exists() else None
    progress = state['progress'] if state else {
        'iterations': [0] * len(job.stages), 'seconds': [0.] * len(job.stages), 'fed': 0, 'points': 0, 'curve': []}
    first = state['stage'] if state else 0
    for number in range(first, len(job.stages)):
        model = build(job, number, device)
        if state and number == first:
            model.get_bare_model(model.net_g).load_state_dict(state['weights'])
            model.resume_training(state)
        last = number == len(job.stages) - 1
        train_stage(job, number, model, progress, patches, first_set(images) if last else None, device, file)
        save_whole({'params': model.get_bare_model(model.net_g).state_dict()}, str(weights_file(job, number)))
    scores = model_rows(model, images)
    add_point(progress, [row for row in scores if row['set'] == images[0].set])
    file.unlink(missing_ok=True)
    return {**progress, 'scores': scores}


def train_stage(job, number, model, progress, patches, curve_images, device, file):
    """Trains a stage to its limit, or raises KeyboardInterrupt once asked to stop; both leave `progress` up to date."""
    limit, saved = job.limits[number], time.monotonic()
    while True:
        done, seconds = progress['iterations'][number], progress['seconds'][number]
        spent = limit.spent(done, seconds)
        if spent >= 1:
            return
        if curve_images and int(spent * POINTS) > progress['points']:
            progress['points'] = int(spent * POINTS)
            add_point(progress, model_rows(model, curve_images))
        if stop_request.requested_at is not None or time.monotonic() - saved > CHECKPOINT_SECONDS:
            save(file, number, model, progress)
            saved = time.monotonic()
        if stop_request.requested_at is not None:
            raise KeyboardInterrupt(f'stopped after iteration {sum(progress["iterations"])} and saved; the same '
                                    'command continues')
        batch = patches.draw(job.seed, sum(progress['iterations']) + 1)
        elapsed = milliseconds(lambda: step(model, batch, done + 1, limit.total(done, seconds)), device) / 1e3
        progress['iterations'][number] += 1
        progress['seconds'][number] += elapsed
        progress['fed'] = checksum(batch, progress['fed'])


def add_point(progress, rows):
    """Adds the mean of these rows to the curve."""
    progress['curve'].append({'iteration': sum(progress['iterations']), 'seconds': sum(progress['seconds']),
                              'psnr_y': mean_rows(rows, ('set', ))[0]['psnr_y']})


def save(file, stage, model, progress):
    """Everything a resumed run needs, in one file that is written whole."""
    save_whole({
        'stage': stage, 'progress': progress, 'weights': model.get_bare_model(model.net_g).state_dict(),
        'optimizers': [optimizer.state_dict() for optimizer in model.optimizers],
        'schedulers': [scheduler.state_dict() for scheduler in model.schedulers]}, str(file))
