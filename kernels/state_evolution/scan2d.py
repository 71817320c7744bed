"""State evolution over images: the sum of scans along several directions."""
import torch

from .api import state_evolution

DIRECTIONS = ('forward', 'backward', 'downward', 'upward')


def state_evolution_2d(q, k, v, log_decay, step_size, height, width, *, directions=DIRECTIONS, backend='auto',
                       chunk_size=None):
    """Sum of `state_evolution` along several directions of an image with L = height * width pixels, row by row."""
    if height * width != q.shape[1]:
        raise ValueError(f'height * width must equal L = {q.shape[1]}, got {height} * {width}')
    for direction in directions:
        if direction not in DIRECTIONS:
            raise ValueError(f'directions must be among {DIRECTIONS}, got {direction!r}')
    pixels = torch.arange(height * width, device=q.device).view(height, width)
    orders = {'forward': pixels.flatten(), 'backward': pixels.flatten().flip(0),
              'downward': pixels.T.flatten(), 'upward': pixels.T.flatten().flip(0)}
    batch, count = q.shape[0], len(directions)

    def scan(x, stacked=False):
        return torch.cat([(x[i] if stacked else x)[:, orders[d]] for i, d in enumerate(directions)])

    o = state_evolution(scan(q), scan(k), scan(v), scan(log_decay, log_decay.dim() == 4),
                        scan(step_size, step_size.dim() == 4), backend=backend, chunk_size=chunk_size)
    return sum(x[:, orders[d].argsort()] for x, d in zip(o.split(batch), directions))
