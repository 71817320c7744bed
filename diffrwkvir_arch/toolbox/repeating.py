"""What training draws at random follows from its seed and how far it is: a resumed run draws it again.

A sample draws the same in however many processes, each of them its own noise in an iteration.
"""
from basicsr.models.base_model import BaseModel
from basicsr.utils.dist_util import get_dist_info
from torch.utils.data import Dataset, Sampler

from diffrwkvir_arch.draws import going_on, seed_all, seed_cpu
from diffrwkvir_arch.toolbox.patching import swap


class Places(Sampler):
    """A sampler's indices, each with its place in training: seed, epoch, number among all processes'.

    Args:
        sampler (Sampler): `epoch` and `first`, the number of its first index, are asked for where it has them, as
            SeededSampler does; others begin another epoch every time.
        seed (int | None): The same on all ranks.
    """

    def __init__(self, sampler, seed):
        self.sampler, self.seed = sampler, seed
        self.passes = 0

    def __iter__(self):
        epoch, (rank, world_size) = getattr(self.sampler, 'epoch', self.passes), get_dist_info()
        self.passes += 1
        for number, index in enumerate(self.sampler, start=getattr(self.sampler, 'first', 0)):
            # Rank 0, whoever takes it: one process draws as it always did.
            yield index, (self.seed, 0, epoch, number * world_size + rank)

    def __len__(self):
        return len(self.sampler)


class SeededSamples(Dataset):
    """A dataset's samples by what Places yields: each draws what follows from its place, in whichever process.

    A place rather than an index, which an enlarged dataset has several times in an epoch.
    """

    def __init__(self, dataset):
        self.dataset = dataset

    def __getitems__(self, items):
        with going_on():
            return [self.sample(*item) for item in items]

    def sample(self, index, place):
        seed_cpu('sample', *place)
        return self.dataset[index]

    def __len__(self):
        return len(self.dataset)


def mend_random_steps():
    """Fault: utils/options.py:102 seeds once; noise and dropout of an iteration then depend on all that was drawn
    before, validations and an interruption included, of which training states say nothing.
    Mend: each iteration, which train.py:170 begins by its learning rate, draws what follows from manual_seed, process
    and iteration.
    """

    def update_learning_rate(self, current_iter, warmup_iter=-1):
        update_learning_rate.upstream(self, current_iter, warmup_iter)
        # Without one where a script builds the model.
        if self.opt.get('manual_seed') is not None:
            seed_all('iteration', self.opt['manual_seed'], get_dist_info()[0], current_iter)

    swap(BaseModel, 'update_learning_rate', update_learning_rate)
