"""Which precision a call is computed in."""
from contextlib import nullcontext

import torch

# Where log_decay is lower, bodies that add it up take this: beside a sum of -1e6 float32 loses what follows, and
# -inf - -inf is NaN. exp(-64) is nothing beside 1, in float64 too.
LEAST_LOG_DECAY = -64.


def compute_dtype(*tensors):
    """float64 if any tensor is, else float32: states and sums never live in half precision."""
    return torch.float64 if any(x.dtype == torch.float64 for x in tensors) else torch.float32


def without_autocast(device):
    """A context with autocast off; tensors without memory know none, and where it is off graphs stay free of it."""
    if device.type == 'meta' or not torch.is_autocast_enabled(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
