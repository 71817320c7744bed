"""Several processes: torchrun, DistributedDataParallel, and machines without CUDA."""
import datetime
import inspect
import os
import subprocess

import torch
import torch.distributed as dist
from basicsr.models.base_model import BaseModel
from basicsr.models.sr_model import SRModel
from basicsr.utils import dist_util
from basicsr.utils.registry import MODEL_REGISTRY
from torch.nn.parallel import DataParallel, DistributedDataParallel

from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.toolbox.logs import warn
from diffrwkvir_arch.toolbox.patching import swap

# Rank 0 alone validates, and the others wait for it in a collective call. The default of 10 minutes (NCCL) is less than
# a validation on large images may take.
TIMEOUT = datetime.timedelta(hours=2)

# PyTorch renamed the argument.
ARGUMENTS = inspect.signature(DistributedDataParallel).parameters
SYNC_BUFFERS = 'forward_sync_buffers' if 'forward_sync_buffers' in ARGUMENTS else 'broadcast_buffers'


def are_several():
    """Whether this process is one of a group; the functions below must be called by all of it at the same point."""
    return dist.is_available() and dist.is_initialized()


def agree(value):
    """Rank 0's value, on all ranks; the value itself where there is one process."""
    if not are_several():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def any_rank(flag, device):
    """Whether the flag is set on any rank."""
    if not are_several():
        return flag
    vote = torch.tensor(float(flag), device=device)
    dist.all_reduce(vote, op=dist.ReduceOp.MAX)
    return bool(vote.item())


def wait_for_all():
    """Returns when every rank has come here."""
    if are_several():
        dist.barrier()


def refuse_in_threads(opt):
    """Raises InputError for options that DataParallel gets wrong without a word.

    In its threads autocast computes in float16, and copies of a compiled network run the original's code and weights.
    """
    for key in ('amp', 'compile'):
        if opt['train'].get(key):
            raise InputError(f'train.{key} does not work on {opt["num_gpu"]} GPUs of one process; start one a GPU, '
                             f'torchrun --nproc_per_node {opt["num_gpu"]} -m diffrwkvir_arch train -opt FILE '
                             '--launcher pytorch, or set num_gpu: 1')


def tell_idle(opt):
    """Warns of processes that a test has no use for: of BasicSR's models those for videos alone share out images."""
    if getattr(MODEL_REGISTRY.get(opt['model_type']), 'dist_validation', None) is SRModel.dist_validation:
        warn(f'one of {opt["world_size"]} processes tests all images, the others do nothing; start one, without '
             '--launcher')


def mend_start():
    """Fault: utils/dist_util.py:21-25 always takes NCCL and the device rank % device_count, a ZeroDivisionError without
    CUDA and the wrong GPU where a node's ranks do not start at a multiple of its GPUs; without torchrun it ends in
    KeyError: 'RANK'.
    Mend: gloo without CUDA, the device from LOCAL_RANK, and a message with the command.
    """

    def _init_dist_pytorch(backend, **kwargs):
        if not {'RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR'} <= set(os.environ):
            raise InputError('--launcher pytorch needs to be started by torchrun: torchrun --nproc_per_node 2 '
                             '-m diffrwkvir_arch train -opt FILE --launcher pytorch')
        local_rank = int(os.environ['LOCAL_RANK'])
        if not torch.cuda.is_available():
            backend = 'gloo'
        elif local_rank < torch.cuda.device_count():
            torch.cuda.set_device(local_rank)
        elif backend != 'gloo':
            raise InputError(f'--nproc_per_node asks for at least {local_rank + 1} GPUs, '
                             f'{torch.cuda.device_count()} are visible')
        dist.init_process_group(backend=backend, timeout=TIMEOUT, **kwargs)

    swap(dist_util, '_init_dist_pytorch', _init_dist_pytorch)


def mend_slurm():
    """Fault: utils/dist_util.py:28-57, beside those of _init_dist_pytorch, ends outside of Slurm in KeyError:
    'SLURM_PROCID' and asks a shell for the host's name.
    Mend: Slurm's variables become torchrun's, and all else is as with torchrun. Tasks that Slurm shows one GPU each
    (--gpus-per-task, --gpu-bind) all call it the first.
    """

    def _init_dist_slurm(backend, port=None):
        if not {'SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST', 'SLURM_LOCALID'} <= set(os.environ):
            raise InputError('--launcher slurm needs to be started by srun, in a job of Slurm: srun --ntasks 2 '
                             'basicsr train -opt FILE --launcher slurm')
        hosts = subprocess.run(['scontrol', 'show', 'hostname', os.environ['SLURM_NODELIST']], capture_output=True,
                               text=True, check=True).stdout.split()
        local_rank = int(os.environ['SLURM_LOCALID']) % max(1, torch.cuda.device_count())
        os.environ.update(RANK=os.environ['SLURM_PROCID'], WORLD_SIZE=os.environ['SLURM_NTASKS'],
                          LOCAL_RANK=str(local_rank), MASTER_ADDR=hosts[0])
        if port is not None:
            os.environ['MASTER_PORT'] = str(port)
        os.environ.setdefault('MASTER_PORT', '29500')
        dist_util._init_dist_pytorch(backend)

    swap(dist_util, '_init_dist_slurm', _init_dist_slurm)


def mend_wrapping():
    """Fault: models/base_model.py:95-101 gives DistributedDataParallel the current CUDA device even on CPU ('Found no
    NVIDIA driver'), and lets it broadcast buffers in every forward, while only rank 0 validates: with a network that
    has buffers the ranks' collective calls get out of step, ending in a crash (gloo) or a hang (NCCL). DataParallel
    takes every GPU of the machine, whatever num_gpu says.
    Mend: device_ids on CUDA only; no broadcast of buffers, rank 0's are what is saved; num_gpu GPUs.
    """

    def model_to_device(self, net):
        net = net.to(self.device)
        if self.opt['dist']:
            return DistributedDataParallel(
                net,
                device_ids=[torch.cuda.current_device()] if self.device.type == 'cuda' else None,
                **{SYNC_BUFFERS: False},
                find_unused_parameters=self.opt.get('find_unused_parameters', False))
        gpus = self.opt['num_gpu']
        return DataParallel(net, device_ids=list(range(gpus))) if gpus > 1 else net

    swap(BaseModel, 'model_to_device', model_to_device)
