"""How time and memory are measured: rivals take turns within every repetition, so that whatever else the machine does
falls on all of them.

On a GPU a buffer far larger than its L2 cache is overwritten before every timed call: inputs come from device memory.
What the CPU can queue while that runs adds no time; a body that it cannot feed fast enough shows the wait.
"""
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

WARM_UPS = 2
FEWEST_REPEATS = 3
FLUSHED_BYTES = 2 ** 30


def quartiles(values):
    """First quartile, median, third quartile."""
    return statistics.quantiles(values, n=4, method='inclusive') if len(values) > 1 else [values[0]] * 3


def milliseconds(call, flushed=None):
    """One call; with `flushed`, a CUDA tensor, timed on its device after the cache is filled with that."""
    if flushed is None:
        start = time.perf_counter()
        call()
        return (time.perf_counter() - start) * 1e3
    flushed.zero_()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def flush_buffer(device):
    return torch.empty(FLUSHED_BYTES, dtype=torch.uint8, device=device) if device == 'cuda' else None


def time_in_turns(calls, device, repeats, seconds):
    """Times every call once a repetition, until `repeats` are done or `seconds` are over.

    Args:
        calls: name -> function without arguments.

    Returns:
        name -> [milliseconds of each repetition].
    """
    flushed = flush_buffer(device)
    for call in calls.values():
        for _ in range(WARM_UPS):
            milliseconds(call, flushed)
    times = {name: [] for name in calls}
    start = time.perf_counter()
    for done in range(repeats):
        if done >= FEWEST_REPEATS and time.perf_counter() - start > seconds:
            break
        for name, call in calls.items():
            times[name].append(milliseconds(call, flushed))
    return times


def peak_extra_bytes(call, device):
    """The most memory that a call holds beyond what was held before, its results included.

    On a CPU only what PyTorch's allocator hands out is seen.
    """
    if device == 'cuda':
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        results = call()
    del results
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, 'trace.json')
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())['traceEvents']
    events = sorted((event for event in events if event.get('name') == '[memory]'), key=lambda event: event['ts'])
    held = most = 0
    for event in events:
        held += event['args']['Bytes']
        most = max(most, held)
    return most
