"""A whole study: every method, seed and budget once, whatever fails; what is finished is not done again."""
import hashlib
import json
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import torch

from diffrwkvir_arch.errors import InputError, first_line
from diffrwkvir_arch.tools.call_cost import device_name
from diffrwkvir_arch.toolbox.stopping import stop_request

from . import planning, scoring
from .patches import Patches
from .sizes import measure, refuse_unequal
from .training import Job, run

RESULT = 'result.json'


@dataclass
class Study:
    """What is compared, and under which conditions.

    methods: name -> stages, see methods. larger: methods exempt from the rule of sizes; tolerance: None for no rule.
    iterations: of every run, None for as many as fit into `hours`. stage1_share: the first of two stages' part.
    degradation: what made the LQs of patches. report_only: nothing is trained, runs that are not finished are left out.
    """
    methods: dict
    larger: dict
    tolerance: float
    seeds: list
    budgets: list
    iterations: int
    hours: float
    stage1_share: float
    learning_rate: float
    patches: Patches
    degradation: str
    images: list
    device: torch.device
    out: Path
    report_only: bool = False


@dataclass
class Outcome:
    """What there is to report.

    plan: see planning. costs: method -> what measure returns. results: of finished runs, with method, seed and budget.
    failures: a line each; missing: how many runs report_only left out.
    """
    plan: dict = None
    costs: dict = field(default_factory=dict)
    results: list = field(default_factory=list)
    failures: list = field(default_factory=list)
    missing: int = 0
    interrupted: bool = False


def carry_out(study):
    """Measures and times all methods, then trains and scores each with every budget and seed.

    Returns:
        Outcome: Ctrl-C ends it early with what is finished.
    """
    outcome = Outcome()
    with stop_request.on_signals():
        # A run saves itself; BasicSR's loop, which would save too, is not there.
        stop_request.active = False
        try:
            prepare(study, outcome)
            for budget, seed, name, job in tasks(study, outcome):
                if stop_request.requested_at is not None:
                    raise KeyboardInterrupt
                if study.report_only and not is_finished(job):
                    outcome.missing += 1
                    continue
                label = f'{name}, seed {seed}, equal {budget}'
                result = attempt(label, outcome, study.out, lambda: finished_run(job, study))
                if result:
                    outcome.results.append({'method': name, 'seed': seed, 'budget': budget, **result})
                    say(f'{label}: {sum(result["iterations"])} iterations in {sum(result["seconds"]):.0f} s, '
                        f'{result["curve"][-1]["psnr_y"]:.2f} dB on {study.images[0].set}')
        except KeyboardInterrupt as interrupt:
            outcome.interrupted = True
            say(str(interrupt) or 'interrupted; the same command continues')
    return outcome


def prepare(study, outcome):
    """Fills in costs and plan; methods that cannot be built or take no step are left out from here on."""
    for name, stages in study.methods.items():
        cost = attempt(name, outcome, study.out, lambda: measure(stages))
        if cost:
            outcome.costs[name] = cost
            say(f'{name}: {cost["parameters"] / 1e6:.3f} M parameters, {cost["flops"] / 1e9:.2f} GFLOP')
    if study.tolerance is not None:
        refuse_unequal(outcome.costs, study.larger, study.tolerance)
    file = study.out / 'plan.json'
    request = {'iterations': study.iterations, 'hours': study.hours, 'batch': study.patches.batch,
               'patch': study.patches.size, 'patches': study.patches.checksum, 'stage 1 share': study.stage1_share}
    if not study.report_only:
        # Times of another machine are not comparable.
        request |= {'device': device_name(study.device), 'torch': torch.__version__}
    outcome.plan = planning.read_plan(file, request)
    if study.report_only:
        if outcome.plan is None:
            raise InputError(f'--report-only: there is no plan.json in {study.out}; give the --out of a study')
        return
    timings = dict(outcome.plan['timings']) if outcome.plan else {}
    for name in [name for name in outcome.costs if name not in timings]:
        timing = attempt(name, outcome, study.out, lambda: planning.time_method(study.methods[name], study))
        if timing:
            timings[name] = timing
            say(f'{name}: {" and ".join(f"{seconds * 1e3:.0f}" for seconds in timing["steps"])} ms a step')
    if not timings:
        return
    outcome.plan = {**(outcome.plan or planning.settle(timings, study)), 'timings': timings, 'request': request}
    file.write_text(json.dumps(outcome.plan, indent=1), encoding='utf-8')
    left = sum(planning.expected_seconds(budget, outcome.plan, timings[name], study.stage1_share)
               for budget, _, name, job in tasks(study, outcome) if not is_finished(job))
    say(f'{outcome.plan["iterations"]} iterations, or {outcome.plan["seconds"]:.0f} s of training; about '
        f'{left / 3600:.2f} hours to go')


def tasks(study, outcome):
    """Budget, seed, method and Job of every run: all methods with the first seed, then with the next."""
    usable = outcome.plan['timings'] if outcome.plan else ()
    return [(budget, seed, name, job_of(study, outcome.plan, budget, seed, name)) for budget in study.budgets
            for seed in study.seeds for name in outcome.costs if name in usable]


def job_of(study, plan, budget, seed, name):
    """The Job of a run, in a folder whose name changes with all that it is asked to do (not with the code)."""
    stages = study.methods[name]
    limits = planning.limits(len(stages), budget, plan, plan['timings'][name], study.stage1_share)
    depends = [stages, [limit[0] for limit in limits], study.learning_rate, study.patches.batch, study.patches.size,
               study.patches.checksum, scoring.checksum(study.images)]
    digest = hashlib.blake2b(json.dumps(depends).encode(), digest_size=4).hexdigest()
    return Job(stages, limits, seed, study.learning_rate, study.out / 'runs' / f'{name}_{budget}_seed{seed}_{digest}')


def is_finished(job):
    return (job.folder / RESULT).exists()


def finished_run(job, study):
    """The result of a run: from its file where there is one."""
    file = job.folder / RESULT
    if not is_finished(job):
        result = run(job, study.patches, study.images, study.device)
        part = file.with_suffix('.tmp')
        part.write_text(json.dumps(result), encoding='utf-8')
        part.replace(file)
    return json.loads(file.read_text(encoding='utf-8'))


def attempt(label, outcome, out, action):
    """action(), or None and an entry among the failures: the other methods go on."""
    try:
        return action()
    except Exception as error:
        outcome.failures.append(f'{label}: {first_line(error)}')
        say(f'{outcome.failures[-1]} (see failures.log)')
        with (out / 'failures.log').open('a', encoding='utf-8') as log:
            log.write(f'{label}\n{traceback.format_exc()}\n')
        return None


def say(text):
    print(text, file=sys.stderr, flush=True)
