"""What one call costs on a device: its time, and the memory that it holds at most."""
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile


def milliseconds(call, device):
    """Wall time of a call, until a GPU has done what it was given."""
    synchronize(device)
    start = time.perf_counter()
    call()
    synchronize(device)
    return (time.perf_counter() - start) * 1e3


def synchronize(device):
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def peak_extra_bytes(call, device):
    """The most memory that a call holds at once beyond what was held before; what it returns included.

    On a GPU the peak of PyTorch's caching allocator. On a CPU every block that PyTorch's allocator hands out and takes
    back, inside operators too, as torch.profiler records them; what libraries allocate on their own is not seen.
    """
    if device.type == 'cuda':
        synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before

    # Read when the profiler first starts; below this level it writes of its starts and stops to stderr.
    os.environ.setdefault('KINETO_LOG_LEVEL', '99')
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, 'trace.json')
        recorded.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding='utf-8'))['traceEvents']
    blocks = sorted((event for event in events if event.get('name') == '[memory]'), key=lambda event: event['ts'])
    held = most = 0
    for block in blocks:
        held += block['args']['Bytes']
        most = max(most, held)
    return most


def device_name(device):
    """Such as 'AMD EPYC 9654 96-Core Processor, 2 threads'."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    return f'{processor()}, {torch.get_num_threads()} threads'


def processor():
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as file:
            return next(line.split(':')[1].strip() for line in file if line.startswith('model name'))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
