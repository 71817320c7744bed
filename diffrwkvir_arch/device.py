"""The device that a tool or a metric computes on, and whether its memory suffices."""
import torch

from diffrwkvir_arch.errors import InputError


def choose_device(name='auto', option='device'):
    """The torch.device of 'cpu', 'cuda' or 'cuda:N'; 'auto' is CUDA where there is one, else the CPU.

    Raises:
        InputError: Another name, or there is no such GPU; the message begins with `option`.
    """
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    kind, _, number = str(name).partition(':')
    if kind not in ('cpu', 'cuda') or number and not number.isdecimal():
        raise InputError(f'{option} must be auto, cpu, cuda or cuda:N, got {name}')
    if kind == 'cuda' and int(number or 0) >= torch.cuda.device_count():
        raise InputError(f'{option} {name}: PyTorch sees {torch.cuda.device_count()} CUDA devices; use {option} cpu')
    return torch.device(str(name))


def out_of_memory(error):
    """Whether an exception says that the memory of a GPU or of the machine did not suffice."""
    # PyTorch's allocator for the CPU, on Windows and elsewhere.
    of_cpu = 'not enough memory', "can't allocate memory"
    return isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or any(text in str(error) for text in of_cpu)
