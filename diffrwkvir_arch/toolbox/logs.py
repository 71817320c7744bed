"""What BasicSR prints while it works."""
import logging
import warnings

from basicsr.utils import logger as basicsr_logger
from basicsr.utils.dist_util import get_dist_info

from diffrwkvir_arch.ranks import is_first_rank
from diffrwkvir_arch.toolbox.patching import swap


def warn(message):
    """Logs a warning once per job; before BasicSR opens its log file it goes to stderr alone."""
    if get_dist_info()[0] == 0 and is_first_rank():
        logging.getLogger('basicsr').warning(message)


def close_logs():
    """Lets the next pipeline of this process open its own log file.

    Fault: utils/logger.py:142 keeps the first log file open for good, so training and then testing in one process
    writes no test log.
    """
    logger = logging.getLogger('basicsr')
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    basicsr_logger.initialized_logger.pop('basicsr', None)


def mend_vain_warnings():
    """Faults: archs/swinir_arch.py:125 calls torch.meshgrid as PyTorch may one day refuse, which warns into every bar;
    DistributedDataParallel warns of kernels of one pixel or one channel, whose gradients convolutions give other
    strides for axes of one, the same place in memory.
    Mend: the warnings are not shown.
    """
    warnings.filterwarnings('ignore', r'torch\.meshgrid', UserWarning)
    warnings.filterwarnings('ignore', 'Grad strides do not match bucket view strides', UserWarning)


def mend_last_eta():
    """Fault: utils/logger.py:101 counts one iteration too few as left, so the last line says 'eta: -1 day, 23:59:57'.
    Mend: the end is put one iteration later, which that line alone reads.
    """

    def __init__(self, opt, start_iter=1, tb_logger=None):
        __init__.upstream(self, opt, start_iter, tb_logger)
        self.max_iters += 1

    swap(basicsr_logger.MessageLogger, '__init__', __init__)
