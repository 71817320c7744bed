"""Which precision a call is computed in."""
import torch


def compute_dtype(*tensors):
    """float64 if any tensor is, else float32: states and sums never live in half precision."""
    return torch.float64 if any(x.dtype == torch.float64 for x in tensors) else torch.float32
