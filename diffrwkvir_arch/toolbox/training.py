"""Optimizers and the moving average of the weights."""
import inspect

import torch
from basicsr.models.base_model import BaseModel
from torch.optim.swa_utils import get_ema_multi_avg_fn

from diffrwkvir_arch.errors import InputError, did_you_mean
from diffrwkvir_arch.signatures import check_names
from diffrwkvir_arch.toolbox.patching import swap


def find_optimizer(name, option='train.optim.type'):
    """The class of torch.optim of that name.

    Args:
        name (str): Such as 'AdamW'.
        option (str): The option that gives it, for error messages.
    """
    known = {
        key: value
        for key, value in vars(torch.optim).items()
        if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer) and value is not torch.optim.Optimizer
    }
    if name not in known:
        raise InputError(f"{option}: unknown optimizer '{name}'{did_you_mean(name, known)}; "
                         f"torch.optim has {', '.join(sorted(known))}")
    return known[name]


def make_optimizer(option, name, params, options):
    """An optimizer of torch.optim.

    Args:
        option (str): The section that describes it, for error messages.
        name (str): Such as 'AdamW'.
        params (list): As the optimizer takes them.
        options (dict): Its other arguments.
    """
    optimizer = find_optimizer(name, f'{option}.type')
    check_names(option, options, optimizer, given=['params'])
    try:
        return optimizer(params, **options)
    except (TypeError, ValueError) as error:
        values = ', '.join(f'{key}: {value}' for key, value in options.items())
        raise InputError(f'{option}: {name} refuses {values}: {error}') from None


def mend_optimizers():
    """Fault: models/base_model.py:103-108 knows Adam alone; AdamW and all others end in NotImplementedError.
    Mend: every class of torch.optim.
    """

    def get_optimizer(self, optim_type, params, lr=None, **kwargs):
        return make_optimizer('train.optim', optim_type, params, kwargs if lr is None else {'lr': lr, **kwargs})

    swap(BaseModel, 'get_optimizer', get_optimizer)


def mend_moving_average():
    """Fault: models/base_model.py:75-82 averages parameters and leaves buffers as they were built, so BatchNorm's
    running statistics in net_g_ema stay 0 and 1. Each parameter is a call of its own, hundreds that a GPU waits for.
    Mend: buffers are copied, as they are averages already; parameters are averaged together.
    """

    def model_ema(self, decay=0.999):
        net = self.get_bare_model(self.net_g)
        with torch.no_grad():
            get_ema_multi_avg_fn(decay)(list(self.net_g_ema.parameters()), list(net.parameters()), None)
            for copy, current in zip(self.net_g_ema.buffers(), net.buffers(), strict=True):
                copy.copy_(current)

    swap(BaseModel, 'model_ema', model_ema)
