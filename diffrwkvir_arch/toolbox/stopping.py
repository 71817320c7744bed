"""Ctrl-C, SIGTERM and their like during training: the iteration is finished and saved, so that nothing is lost."""
import contextlib
import os
import signal
import time

from basicsr.models.base_model import BaseModel

from diffrwkvir_arch.ranks import is_first_rank
from diffrwkvir_arch.toolbox.distributed import any_rank, wait_for_all
from diffrwkvir_arch.toolbox.patching import swap

# Beside Ctrl-C and SIGTERM: a closed terminal's, and those by which Slurm (--signal) and others announce the end.
ANNOUNCED = tuple(getattr(signal, name) for name in ('SIGHUP', 'SIGUSR1', 'SIGUSR2') if hasattr(signal, name))

# A launcher passes Ctrl-C on to processes that the terminal has sent it to already.
SAME_PRESS = 1.0  # seconds


class TrainingStopped(KeyboardInterrupt):
    """Training was stopped and saved; the message says where."""


class StopRequest:
    """Whether the user asked training to stop; set by signals while `on_signals` is entered."""

    def __init__(self):
        self.active = False
        self.requested_at = None
        self.in_validation = False

    @contextlib.contextmanager
    def on_signals(self):
        """Within this context a signal asks to stop, a SIGINT or SIGTERM after it stops at once.

        Of ANNOUNCED only those that nobody has taken yet: nohup ignores SIGHUP.
        """
        self.__init__()
        self.active = True
        owner = os.getpid()

        def handle(number, frame):
            # Forked workers inherit this handler. Ctrl-C is their parent's business, which ends them.
            if os.getpid() != owner:
                if number == signal.SIGTERM:
                    os._exit(0)
                return
            if self.requested_at is None:
                self.requested_at = time.monotonic()
                if is_first_rank():
                    # Of a closed terminal nothing takes it.
                    with contextlib.suppress(OSError):
                        os.write(2, b'\nbasicsr: finishing this iteration and saving; once more to stop at once\n')
                if self.in_validation:
                    raise ValidationCutShort
            elif number not in ANNOUNCED and time.monotonic() - self.requested_at > SAME_PRESS:
                raise KeyboardInterrupt

        numbers = signal.SIGINT, signal.SIGTERM, *(number for number in ANNOUNCED
                                                   if signal.getsignal(number) is signal.SIG_DFL)
        previous = {number: signal.signal(number, handle) for number in numbers}
        try:
            yield self
        finally:
            self.active = False
            for number, handler in previous.items():
                signal.signal(number, handler)


class ValidationCutShort(BaseException):
    """Leaves a running validation, whose result nobody waits for any more; no `except Exception` stops it."""


stop_request = StopRequest()


def mend_interrupted_training():
    """Fault: train.py:161-198, Ctrl-C or a cluster's SIGTERM loses everything since the last checkpoint.
    Mend: before each iteration the ranks agree whether to stop; if so the model saves networks and state.
    """

    def update_learning_rate(self, current_iter, warmup_iter=-1):
        if stop_request.active and any_rank(stop_request.requested_at is not None, self.device):
            done = current_iter - 1
            if done == 0:
                raise TrainingStopped('stopped before the first iteration; nothing to save')
            # The epoch follows from the iteration, see mend_saving_a_state.
            self.save(0, done)
            # torchrun ends all processes as soon as one has left; rank 0 must have saved by then.
            wait_for_all()
            state = os.path.join(self.opt['path']['training_states'], f'{done}.state')
            raise TrainingStopped(f'stopped after iteration {done}, saved as {state}; go on with the same command and '
                                  '--auto_resume')
        update_learning_rate.upstream(self, current_iter, warmup_iter)

    swap(BaseModel, 'update_learning_rate', update_learning_rate)


def mend_interrupted_validation():
    """Faults: a long validation would keep Ctrl-C waiting; train.py:162-164 has counted one iteration too many when the
    final validation begins, which is logged as 'Best @ 101 iter' of 100.
    Mend: a signal leaves the validation, and iterations end at total_iter.
    """

    def validation(self, dataloader, current_iter, tb_logger, save_img=False):
        if self.opt['is_train']:
            current_iter = min(current_iter, int(self.opt['train']['total_iter']))
        if stop_request.requested_at is not None:
            return
        try:
            stop_request.in_validation = stop_request.active
            validation.upstream(self, dataloader, current_iter, tb_logger, save_img)
        except ValidationCutShort:
            pass
        finally:
            stop_request.in_validation = False

    swap(BaseModel, 'validation', validation)
