"""Learning rates: what the schedule says, whether a run warms up, is resumed, or is resumed with other options."""
import pytest
from basicsr.models import build_model
from basicsr.models.base_model import BaseModel

STEPS = {'type': 'MultiStepLR', 'milestones': [4, 9, 9, 12], 'gamma': 0.5}
RESTARTS = {**STEPS, 'restarts': [0, 8], 'restart_weights': [1, 0.5]}
COSINE = {'type': 'CosineAnnealingRestartLR', 'periods': [8, 8], 'restart_weights': [1, 0.5], 'eta_min': 1e-7}


@pytest.fixture
def opt(options, tmp_path):
    """The option dict of a run, as a model gets it."""
    for name in ('models', 'training_states', 'visualization'):
        (tmp_path / name).mkdir()
        options['path'][name] = str(tmp_path / name)
    options['train']['total_iter'] = 16
    return dict(options, is_train=True, dist=False, rank=0, world_size=1)


def with_schedule(opt, schedule):
    model = build_model({**opt, 'train': {**opt['train'], 'scheduler': dict(schedule)}})
    model.optimizer_g._opt_called = True    # No warning that it should have stepped.
    return model


def rates(model, iterations, warmup_iter=-1, update=BaseModel.update_learning_rate):
    """The learning rate of each iteration."""
    seen = []
    for iteration in iterations:
        update(model, iteration, warmup_iter)
        seen += model.get_current_learning_rate()
    return seen


@pytest.mark.parametrize('schedule', [STEPS, RESTARTS, COSINE])
def test_after_the_warm_up_rates_are_those_without_one(opt, schedule):
    plain = rates(with_schedule(opt, schedule), range(1, 17))
    for warmup_iter in (1, 3, 6, 11):
        warmed = rates(with_schedule(opt, schedule), range(1, 17), warmup_iter)
        assert warmed[:warmup_iter - 1] == [1e-3 / warmup_iter * done for done in range(1, warmup_iter)]
        assert warmed[warmup_iter - 1:] == plain[warmup_iter - 1:]


def test_upstream_stays_below_the_schedule_after_a_warm_up(opt):
    upstream = BaseModel.update_learning_rate.upstream.upstream
    assert rates(with_schedule(opt, STEPS), range(1, 17), 3, upstream)[2] == pytest.approx(1e-3 * 2 / 3)
