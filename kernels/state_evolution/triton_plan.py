"""How a call of the Triton kernels is cut: slabs and segments of chunks, blocks of rows of S, warps."""
from functools import cache

import torch
import triton.language as tl

CHUNK = 16
# Chunks between the states that are kept for the backward pass.
INTERVAL = 4
# Chunks that one program prepares.
GROUP = 4
# Of S, per program: the least a tensor core takes, and what leaves registers for several programs.
ROWS = 16
DOT = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}
# 16-bit numbers that together carry a float32 one.
PARTS = {torch.float32: 1, torch.float16: 2, torch.bfloat16: 3}
H200_SMS = 132
# Bytes of what is prepared at a time.
SCRATCH = 2 ** 27


class Plan:
    """What all kernels of a call are told; shapes as in operators.py."""

    def __init__(self, q, k, v, log_decay, step_size, height, width, directions, d_o=None):
        batch, length, heads, self.q_dim = q.shape
        self.v_dim, self.gates, self.device = v.shape[-1], (log_decay.float(), step_size.float()), v.device
        self.scans, self.streams = len(directions), len(directions) * batch * heads
        self.chunks = blocks_of(length, CHUNK)
        multiprocessors = count_multiprocessors(self.device)

        if self.scans > 31:
            raise ValueError(f'the triton backend takes at most 31 directions a call, got {self.scans}; '
                             "backend='chunked' takes any number")
        dtype = v.dtype if q.dtype == k.dtype == v.dtype else torch.float32
        code = sum(direction << 2 * i for i, direction in enumerate(directions))    # two bits each
        self.dtype, self.parts = dtype, PARTS[dtype]
        strides = [x.stride(1) for x in (q, k, v, d_o) if x is not None] + [x.stride(2) for x in self.gates]
        reach = length * max(heads * max(self.q_dim, self.v_dim), *strides)
        common = dict(DK=self.q_dim, BK=padded(self.q_dim), DOT=DOT[dtype], PARTS=PARTS[dtype],
                      NARROW=height < CHUNK and max(directions) > 1, FAR=reach >= 2 ** 31, enable_fp_fusion=True)
        self.prepare_options = dict(**common, GROUP=GROUP, STAGES=2, num_stages=1, maxnreg=255,
                                    num_warps=2 if self.parts == 1 and self.q_dim > 32 else 1)
        self.walk_options = dict(**common, DV=self.v_dim, BV=ROWS, STAGES=2, num_warps=count_warps(dtype, self.q_dim),
                                 num_stages=1)
        # With fewer registers than there are the assembler would make room for more programs, and spill.
        self.gradient_options = dict(**self.walk_options, maxnreg=255)
        # What a multiprocessor's registers hold at once.
        self.gradient_programs = 8 // self.gradient_options['num_warps'] * multiprocessors

        self.walk_blocks = blocks_of(self.v_dim, ROWS)
        self.map_blocks = self.walk_blocks + blocks_of(self.q_dim, ROWS)
        # Whole intervals: each is walked back from one kept gradient.
        self.slab = in_intervals(self.chunks, count_slabs(self.streams, self.chunks, dtype))
        segments = count_segments(self.streams * self.walk_blocks, min(self.slab, self.chunks), multiprocessors)
        self.segment = in_intervals(self.slab, segments)
        self.sizes = length, height, width, code, batch, heads, self.streams

    def slabs(self):
        """(first, count): the chunks that are prepared at a time."""
        return [(first, min(self.slab, self.chunks - first)) for first in range(0, self.chunks, self.slab)]

    def numbers(self, *tokens, gates=False):
        """The strides of tensors (B, L, H, channels) but for the last, of the gates if asked for, and the sizes."""
        strides = [x.stride()[:3] for x in tokens] + [gate.stride() for gate in self.gates if gates]
        return *sum(strides, ()), *self.sizes

    def gradient_scratch(self):
        """What the programs of `gradients` write to, (programs, floats of each)."""
        # `size` of the kernel.
        floats = (INTERVAL + 1) * self.walk_blocks * ROWS * (2 * (padded(self.q_dim) + CHUNK) + 1)
        jobs = blocks_of(self.slab, INTERVAL) * self.streams
        return self.new(min(jobs, self.gradient_programs), floats)

    def new(self, *shape, dtype=torch.float32):
        return torch.empty(shape, dtype=dtype, device=self.device)


def with_dense_channels(*tokens):
    """Tensors (B, L, H, channels), copied only where a token's channels do not lie together."""
    return [x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous() for x in tokens]


def chunk_bytes(dtype):
    """What is prepared of a chunk at most: two matrices in parts, and four rows of float32."""
    return 2 * PARTS[dtype] * dtype.itemsize * CHUNK * CHUNK + 4 * 4 * CHUNK


def blocks_of(total, size):
    """How many blocks of a size hold `total`. triton.cdiv takes as long as a launch."""
    return -(-total // size)


def padded(width):
    """The power of 2 that holds it, at least 16."""
    return max(16, 1 << (width - 1).bit_length())


def count_warps(dtype, q_dim):
    """The fewest whose registers hold a block; each more repeats the (CHUNK, CHUNK) matrices."""
    return {16: 1, 32: 1, 64: 2, 128: 2}[padded(q_dim)] if dtype.itemsize == 2 else \
        {16: 1, 32: 2, 64: 4, 128: 4}[padded(q_dim)]


def in_intervals(chunks, parts):
    """The size of each of so many parts of the chunks, a multiple of INTERVAL."""
    return blocks_of(blocks_of(chunks, parts), INTERVAL) * INTERVAL


def count_slabs(streams, chunks, dtype):
    """Into how many slabs, prepared one after the other, all streams are cut."""
    at_once = SCRATCH // (streams * chunk_bytes(dtype)) // INTERVAL * INTERVAL
    return blocks_of(chunks, max(at_once, INTERVAL))


def count_segments(programs, chunks, multiprocessors):
    """Into how many segments a slab of a stream is cut; uncut, `programs` walk at once.

    To find the maps of segments is as much work as 1.4 walks.
    """
    segments = min(16 * multiprocessors // programs, chunks // 16)
    return segments if segments > 3 else 1


@cache
def count_multiprocessors(device):
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == 'cuda' else H200_SMS
