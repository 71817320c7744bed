"""State evolution by Triton kernels: what is launched on what, for the operators that operators.py registers."""
import torch
import triton
from triton.runtime import JITFunction

VERSION = tuple(map(int, triton.__version__.split('.')[:2]))
if VERSION < (3, 3):
    raise ImportError(f'Triton {triton.__version__} is too old, 3.3 or newer is needed')
if VERSION < (3, 5):
    from .triton_range import accept_disable_licm
    accept_disable_licm()

from .backends import first_line
from .triton_backward import adjoint_walk, gradients
from .triton_chunks import prepare, probe
from .triton_forward import compose, walk
from .triton_plan import CHUNK, GROUP, INTERVAL, Plan, blocks_of, with_dense_channels


def why_not(device, dtype):
    """Why Triton cannot compute tensors there, or None; dtype: float64 if that of any is."""
    if dtype == torch.float64:
        return 'it computes in float32, not in float64'
    if not isinstance(walk, JITFunction):    # TRITON_INTERPRET=1
        return None
    if device.type != 'cuda':
        return f'it computes tensors on NVIDIA GPUs, these are on {device}'
    if torch.version.hip:
        return f'it is written for NVIDIA GPUs, {device} is one of AMD (ROCm {torch.version.hip})'
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        return f'it needs compute capability 8.0 or newer, {device} has {major}.{minor}'
    try:
        with torch.cuda.device(device):
            probe.warmup(torch.float32, grid=(1,), num_warps=1, maxnreg=255, enable_fp_fusion=True)
    except Exception as error:
        while error.__cause__:    # the compiler wraps its own once for every function called
            error = error.__cause__
        reason = first_line(getattr(error, 'error_message', None) or error)
        return (f'Triton {triton.__version__} cannot compile ({reason}); it needs a C compiler (CC), ptxas '
                '(TRITON_PTXAS_PATH) and a folder to write to (TRITON_CACHE_DIR)')
    return None


def states_shape(q, v, scans, chunk_size):
    """One state per INTERVAL chunks and the last one: (boundaries, D, B, H, Dv, Dk). chunk_size is not ours to use."""
    tokens = CHUNK * INTERVAL
    return (q.shape[1] + tokens - 1) // tokens + 1, scans, q.shape[0], q.shape[2], v.shape[3], q.shape[3]


def forward(q, k, v, log_decay, step_size, initial_state, height, width, directions, chunk_size, keep_states):
    """Arguments and results as operators.py says; float32 or 16-bit tensors."""
    plan = Plan(q, k, v, log_decay, step_size, height, width, directions)
    kept, *shape = states_shape(q, v, plan.scans, chunk_size)
    o, last = plan.new(plan.scans, *v.shape, dtype=v.dtype), plan.new(*shape)
    states = plan.new(kept if keep_states else 0, *shape)
    state = None if initial_state is None else initial_state.float().contiguous()
    q, k, v = with_dense_channels(q, k, v)
    numbers = plan.numbers(q, k, v)
    # As much as an output of 16 bits holds.
    options = dict(**plan.walk_options, READ_PARTS=min(2, plan.parts))
    with torch.cuda.device_of(v):
        for first, count in plan.slabs():
            tiles, ratios = prepared(plan, q, k, first, count, options['READ_PARTS'])
            inputs, slab = (q, k, v, tiles, ratios), (*numbers, first, count, plan.segment)

            def find_maps(grid, maps):
                walk[grid](*inputs, None, o, maps, None, *slab, HAS_ENTRY=False, MAP=True, INTERVAL=0, **options)

            segments, entry = entered(plan, count, state, find_maps)
            walk[plan.streams, plan.walk_blocks, segments](
                *inputs, entry, o, last, states, *slab, HAS_ENTRY=entry is not None, MAP=False,
                INTERVAL=INTERVAL if keep_states else 0, **options)
            state = last    # of the programs that go on, each has read what it then overwrites
    return sum_scans(o), last, states


def prepared(plan, q, k, first, count, read_parts):
    """tiles and ratios of `prepare`."""
    tiles = plan.new(count, plan.streams, plan.parts + read_parts, CHUNK, CHUNK, dtype=plan.dtype)
    ratios = plan.new(count, plan.streams, 4, CHUNK)
    prepare[plan.streams, blocks_of(count, GROUP)](
        q, k, *plan.gates, tiles, ratios, *plan.numbers(q, k, gates=True), first, count, READ_PARTS=read_parts,
        **plan.prepare_options)
    return tiles, ratios


def backward(q, k, v, log_decay, step_size, states, height, width, directions, chunk_size, d_o, d_state):
    """Arguments and results as operators.py says; states in float32."""
    plan = Plan(q, k, v, log_decay, step_size, height, width, directions, d_o)
    d_q, d_k, d_v = (plan.new(plan.scans, *x.shape, dtype=x.dtype) for x in (q, k, v))
    d_gates = [plan.new(*x.shape, dtype=x.dtype) for x in (log_decay, step_size)]
    d_initial = plan.new(*states.shape[1:])
    d_state = None if d_state is None else d_state.float().contiguous()
    shared = dict(HAS_D_O=d_o is not None, INTERVAL=INTERVAL)
    q, k, v, d_o = with_dense_channels(q, k, v, v if d_o is None else d_o)    # Without d_o it is not read.
    numbers, all_numbers = plan.numbers(q, k, d_o), plan.numbers(q, k, v, d_o, gates=True)
    scratch = plan.gradient_scratch()
    with torch.cuda.device_of(v):
        for first, count in reversed(plan.slabs()):
            tiles, ratios = prepared(plan, q, k, first, count, plan.parts)
            inputs, slab = (q, k, d_o, tiles, ratios), (*numbers, first, count, plan.segment)

            def find_maps(grid, maps):
                adjoint_walk[grid](*inputs, None, None, maps, *slab, HAS_LEAVING=False, MAP=True, **shared,
                                   **plan.walk_options)

            segments, leaving = entered(plan, count, d_state, find_maps)
            d_states = plan.new(blocks_of(count, INTERVAL), *states.shape[1:])
            adjoint_walk[plan.streams, plan.walk_blocks, segments](
                *inputs, leaving, d_states, d_initial, *slab, HAS_LEAVING=leaving is not None, MAP=False, **shared,
                **plan.walk_options)
            gradients[len(scratch),](
                q, k, v, d_o, *plan.gates, tiles, ratios, states, d_states, scratch, d_q, d_k, d_v, *d_gates,
                *all_numbers, first, count, **shared, **plan.gradient_options)
            d_state = d_initial    # as in `forward`
    return *(sum_scans(x) for x in (d_q, d_k, d_v)), *d_gates, d_initial


def entered(plan, count, state, find_maps):
    """How many segments a slab of `count` chunks has, and the states that enter them; state: that of the first or None.

    find_maps(grid, maps) launches the walk that finds the maps of all segments but the last.
    """
    segments = blocks_of(count, plan.segment)
    if segments == 1:
        return segments, state
    maps = plan.new(segments - 1, plan.streams, plan.v_dim + plan.q_dim, plan.q_dim)
    find_maps((plan.streams, plan.map_blocks, segments - 1), maps)
    return segments, chain(plan, maps, state)


def chain(plan, maps, start):
    """The states at which the segments start, (segments, streams, Dv, Dk), from that of the first (None: zeros)."""
    segments = len(maps) + 1
    entry = plan.new(segments, plan.streams, plan.v_dim, plan.q_dim)
    blocks = {name: plan.walk_options[name] for name in ('DK', 'DV', 'BK', 'BV')}
    wide = blocks['BK'] == 128
    # The tile of P is prefetched where shared memory has room for two.
    compose[plan.streams, plan.walk_blocks](maps, start, entry, plan.streams, segments, **blocks,
                                            HAS_START=start is not None, num_warps=8 if wide else 4,
                                            num_stages=1 if wide else 2, enable_fp_fusion=True)
    return entry


def sum_scans(x):
    """(D, ...) -> (...); torch sums 16-bit numbers in float32."""
    return x[0] if len(x) == 1 else x.sum(0)
