"""Several processes, several GPUs: upstream's faults and their mends."""
import pytest
import torch
import torch.distributed as dist
from basicsr.models import build_model
from basicsr.models.base_model import BaseModel
from basicsr.utils import dist_util

from diffrwkvir_arch.errors import InputError


def test_without_torchrun_the_command_is_told(monkeypatch):
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR'):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(KeyError):
        dist_util._init_dist_pytorch.upstream('nccl')
    with pytest.raises(InputError, match='torchrun --nproc_per_node 2 -m diffrwkvir_arch train -opt FILE --launcher'):
        dist_util._init_dist_pytorch('nccl')


@pytest.fixture
def slurm(one_rank, monkeypatch, tmp_path):
    """The environment of the first task of two nodes; scontrol knows their names."""
    (tmp_path / 'scontrol').write_text('#!/bin/sh\ntest "$*" = "show hostname node[1-2]" && echo 127.0.0.1 && echo b\n')
    (tmp_path / 'scontrol').chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path), prepend=':')
    for name, value in {'PROCID': '0', 'NTASKS': '1', 'NODELIST': 'node[1-2]', 'LOCALID': '0'}.items():
        monkeypatch.setenv(f'SLURM_{name}', value)
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR'):
        monkeypatch.setenv(name, '')


def test_outside_of_slurm_the_command_is_told():
    with pytest.raises(InputError, match='needs to be started by srun'):
        dist_util._init_dist_slurm('nccl')


def test_slurms_variables_become_torchruns(slurm):
    dist_util._init_dist_slurm('nccl', port=0)
    assert dist.get_backend() == 'gloo' and dist.get_world_size() == 1


@pytest.mark.parametrize('visible, device', [(1, 0), (4, 1)])
def test_slurms_tasks_take_their_own_gpu_whether_they_see_it_alone_or_all(slurm, monkeypatch, visible, device):
    chosen = []
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: visible)
    monkeypatch.setattr(torch.cuda, 'set_device', chosen.append)
    monkeypatch.setattr(dist, 'init_process_group', lambda backend, timeout: chosen.append(backend))
    monkeypatch.setenv('SLURM_LOCALID', '1')
    dist_util._init_dist_slurm('nccl')
    assert chosen == [device, 'nccl']


@pytest.fixture
def one_rank(monkeypatch):
    """The environment of torchrun --nproc_per_node 1, on a machine without CUDA."""
    environment = {'RANK': '0', 'WORLD_SIZE': '1', 'LOCAL_RANK': '0', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': '0'}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 0)
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


def test_on_the_cpu_processes_talk_through_gloo_and_models_are_wrapped_without_devices(opt, one_rank):
    with pytest.raises(ZeroDivisionError):
        dist_util._init_dist_pytorch.upstream('nccl')
    dist_util._init_dist_pytorch('nccl')
    assert dist.get_backend() == 'gloo'
    opt.update(dist=True, find_unused_parameters=True)
    model = build_model(opt)
    assert isinstance(model.net_g, torch.nn.parallel.DistributedDataParallel)
    # Rank 0 alone validates: a forward of its own must not wait for the others.
    assert model.net_g.broadcast_buffers is False and model.net_g.find_unused_parameters
    with pytest.raises((RuntimeError, AssertionError)):
        BaseModel.model_to_device.upstream(model, torch.nn.Linear(1, 1))


def test_the_device_is_that_of_the_local_rank(one_rank, monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 4)
    monkeypatch.setattr(torch.cuda, 'set_device', chosen.append)
    monkeypatch.setattr(dist, 'init_process_group', lambda backend, timeout: chosen.append(backend))
    monkeypatch.setenv('RANK', '5')
    monkeypatch.setenv('LOCAL_RANK', '3')
    dist_util._init_dist_pytorch('nccl')
    assert chosen == [3, 'nccl']
    monkeypatch.setenv('LOCAL_RANK', '4')
    with pytest.raises(InputError, match='asks for at least 5 GPUs, 4 are visible'):
        dist_util._init_dist_pytorch('nccl')


def test_one_process_takes_as_many_gpus_as_num_gpu_says(opt, monkeypatch):
    model, taken = build_model(opt), []
    model.opt['num_gpu'] = 2
    monkeypatch.setattr('torch.cuda.device_count', lambda: 4)
    monkeypatch.setattr('diffrwkvir_arch.toolbox.distributed.DataParallel',
                        lambda net, device_ids=None: taken.append(device_ids))
    model.model_to_device(torch.nn.Linear(1, 1))
    assert taken == [[0, 1]]
