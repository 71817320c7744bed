"""How much every method may train: iterations for all alike, and the wall time that they take on average.

Both are settled once, from a few timed steps of each method, and kept in plan.json: a study that is resumed, or
extended by another method or seed, stays comparable with itself.
"""
import json
import shutil

from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.tools.call_cost import milliseconds
from diffrwkvir_arch.toolbox.checkpoints import save_whole

from .scoring import first_set, model_rows
from .training import POINTS, Iterations, Job, Seconds, build, step, weights_file

BUDGETS = ('iterations', 'time')
TIMED_STEPS = 3
FEWEST = 100    # iterations that are worth planning
RESERVE = 0.9   # of the hours asked for is planned


def time_method(stages, study):
    """Times a few steps of each stage and the restoring of one image.

    Returns:
        dict: steps, seconds of a step of each stage; scoring, the estimated seconds of a run's curve and scores.
    """
    job = Job(stages, [Iterations(TIMED_STEPS + 1)] * len(stages), 0, study.learning_rate, study.out / 'timing')
    job.folder.mkdir(parents=True, exist_ok=True)
    steps = []
    for number in range(len(stages)):
        model = build(job, number, study.device)
        times = []
        for iteration in range(1, TIMED_STEPS + 2):
            batch = study.patches.draw(job.seed, iteration)
            times.append(milliseconds(lambda: step(model, batch, iteration, TIMED_STEPS + 1), study.device))
        # The first one compiles and allocates.
        steps.append(sum(times[1:]) / TIMED_STEPS / 1e3)
        save_whole({'params': model.net_g.state_dict()}, str(weights_file(job, number)))
    shutil.rmtree(job.folder)
    smallest = min(study.images, key=lambda image: image.lq.numel())
    # The first one compiles kernels for a single image.
    model_rows(model, [smallest])
    seconds = milliseconds(lambda: model_rows(model, [smallest]), study.device) / 1e3
    pixels = [sum(image.lq.numel() for image in images) for images in (first_set(study.images), study.images)]
    return {'steps': steps, 'scoring': seconds / smallest.lq.numel() * ((POINTS - 1) * pixels[0] + pixels[1])}


def seconds_per_iteration(timing, share):
    """Mean over the stages of a method, the first of two having `share` of the iterations."""
    return sum(part * seconds for part, seconds in zip(parts(len(timing['steps']), share), timing['steps']))


def parts(stages, share):
    """How a budget is shared out among stages."""
    return [1.] if stages == 1 else [share, 1 - share]


def settle(timings, study):
    """The plan of a study: iterations of every method, and seconds of every method, from the time of its steps.

    Raises:
        InputError: The hours do not suffice for FEWEST iterations.
    """
    rates = [seconds_per_iteration(timing, study.stage1_share) for timing in timings.values()]
    iterations = study.iterations
    if iterations is None:
        runs = len(study.seeds) * len(study.budgets)
        # The wall time of the second table is the mean of the first, so both take as long.
        left = RESERVE * study.hours * 3600 - runs * sum(timing['scoring'] for timing in timings.values())
        iterations = int(left / (runs * sum(rates)))
        if iterations < FEWEST:
            needed = (RESERVE * study.hours * 3600 - left + FEWEST * runs * sum(rates)) / RESERVE / 3600
            raise InputError(f'--hours {study.hours:g}: {FEWEST} iterations of each run take about {needed:.2g} hours '
                             'here; give more hours, or fewer methods, seeds or budgets, or say --iterations')
    return {'iterations': iterations, 'seconds': iterations * sum(rates) / len(rates), 'timings': timings}


def read_plan(file, request):
    """The plan of an earlier call, or None.

    Raises:
        InputError: It was made for another request.
    """
    if not file.exists():
        return None
    plan = json.loads(file.read_text(encoding='utf-8'))
    differing = [f'{key} was {plan["request"].get(key)}, now {value}' for key, value in request.items()
                 if plan['request'].get(key) != value]
    if differing:
        raise InputError(f'--out: {file} was made for other options ({"; ".join(differing)}); give those, or another '
                         '--out')
    return plan


def limits(stages, budget, plan, timing, share):
    """The limits of a run's stages."""
    if budget == 'time':
        return [Seconds(part * plan['seconds'], seconds)
                for part, seconds in zip(parts(stages, share), timing['steps'])]
    total = plan['iterations']
    if stages == 1:
        return [Iterations(total)]
    first = min(max(round(share * total), 1), total - 1)
    return [Iterations(first), Iterations(total - first)]


def expected_seconds(budget, plan, timing, share):
    """What a run takes, scoring included."""
    training = plan['seconds'] if budget == 'time' else plan['iterations'] * seconds_per_iteration(timing, share)
    return training + timing['scoring']
