"""Learning rates by iteration: the warm-up, and what a resumed run takes from its option file."""
from basicsr.models.base_model import BaseModel

from diffrwkvir_arch.toolbox.patching import swap


def mend_steps_of_schedules():
    """Faults of models/base_model.py:169-190: MultiStepLR goes on from the rate that it finds, which is the warm-up's:
    for good a little less than the option file says, and wrong by far where a milestone lies within the warm-up; a
    schedule counts iterations, whether its optimizer has stepped or not: not yet in a GAN's net_d_init_iters, nor in a
    run that is resumed, and PyTorch warns that the order is wrong.
    Mend: each schedule steps from its own rate, and takes its optimizer as having stepped.
    """

    def update_learning_rate(self, current_iter, warmup_iter=-1):
        for optimizer in self.optimizers:
            # As its first step does.
            optimizer._opt_called = True
        # The iteration before was one of the warm-up.
        if current_iter <= warmup_iter:
            for scheduler in self.schedulers:
                set_rates(scheduler, scheduler.get_last_lr())
        update_learning_rate.upstream(self, current_iter, warmup_iter)

    swap(BaseModel, 'update_learning_rate', update_learning_rate)


def set_rates(scheduler, rates):
    """Gives every parameter group of a scheduler's optimizer its learning rate."""
    for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
        group['lr'] = rate
