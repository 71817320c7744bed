"""State evolution over images: the sum of scans along several directions (the paper's 2D scanning)."""
from .api import run_scans
from .checks import check_inputs, checked_image
from .scan_orders import DIRECTIONS


def state_evolution_2d(q, k, v, log_decay, step_size, height, width, *, directions=DIRECTIONS, backend='auto',
                       chunk_size=None):
    """Sum over directions of `state_evolution` along an image, whose L = height * width pixels come row by row.

    'forward' reads the rows from the top left on, 'downward' the columns from the top left on; 'backward' and 'upward'
    are their reverses. Every tensor, the gates too, is indexed by pixel, not by place in a scan. Each direction starts
    from a zero state.

    Args:
        q, k (B, L, H, Dk), v (B, L, H, Dv), chunk_size, backend: as in `state_evolution`.
        log_decay, step_size: (B, L, H) for all directions alike, or (D, B, L, H), one per direction in their order.
        directions: D names out of DIRECTIONS; for 'triton' D is at most 31.

    Returns:
        o (B, L, H, Dv) in v's dtype.

    Raises:
        ValueError, TypeError: an argument has the wrong shape, dtype, device or name, or the backend cannot run.
    """
    if isinstance(directions, str) or not hasattr(directions, '__iter__'):
        raise TypeError(f'directions must be a sequence of names, such as {DIRECTIONS[:1]}, got {directions!r}')
    directions = tuple(directions)
    if not directions:
        raise ValueError(f'directions must name at least one of {DIRECTIONS}, got {directions!r}')
    for direction in directions:
        if direction not in DIRECTIONS:
            raise ValueError(f'directions must be among {DIRECTIONS}, got {direction!r}')
    scans = len(directions)
    check_inputs(q, k, v, {'log_decay': log_decay, 'step_size': step_size}, scans=scans)
    height, width = checked_image(height, width, q.shape[1])

    log_decay, step_size = (gate.expand(scans, -1, -1, -1) for gate in (log_decay, step_size))
    numbers = [DIRECTIONS.index(direction) for direction in directions]
    return run_scans(q, k, v, log_decay, step_size, None, height, width, numbers, chunk_size, backend)[0]
