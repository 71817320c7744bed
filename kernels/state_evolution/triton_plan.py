"""How a call of the Triton kernels is cut into programs: blocks of rows of S, warps, and segments of a stream."""
from functools import cache

import torch
import triton
import triton.language as tl

CHUNK = 16
# Chunks between the states that are kept for the backward pass.
INTERVAL = 4
# Chunks that one program prepares.
GROUP = 4
DOT = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}
# 16-bit numbers that together carry a float32 one.
PARTS = {torch.float32: 1, torch.float16: 2, torch.bfloat16: 3}
H200_SMS = 132
# Bytes of what is prepared at a time.
SCRATCH = 2 ** 29


class Plan:
    """What all kernels of a call are told; shapes as in operators.py."""

    def __init__(self, q, k, v, log_decay, step_size, height, width, directions):
        batch, length, heads, self.q_dim = q.shape
        self.v_dim, self.gates, self.device = v.shape[-1], (log_decay, step_size), v.device
        self.scans, self.streams = len(directions), len(directions) * batch * heads
        self.chunks = triton.cdiv(length, CHUNK)
        multiprocessors = count_multiprocessors(self.device)

        if self.scans > 31:
            raise ValueError(f'the triton backend takes at most 31 directions a call, got {self.scans}; '
                             "backend='chunked' takes any number")
        dtype = v.dtype if q.dtype == k.dtype == v.dtype else torch.float32
        code = sum(direction << 2 * i for i, direction in enumerate(directions))    # two bits each
        self.dtype, self.parts = dtype, PARTS[dtype]
        common = dict(DK=self.q_dim, BK=padded(self.q_dim), DOT=DOT[dtype], PARTS=PARTS[dtype],
                      NARROW=height < CHUNK and max(directions) > 1, enable_fp_fusion=True)
        self.prepare_options = dict(**common, GROUP=GROUP, num_warps=1, num_stages=2)
        common['DV'] = self.v_dim
        self.walk_options = dict(**common, **walk_blocks(dtype, self.q_dim, self.v_dim, self.streams, multiprocessors))
        # With fewer registers than there are the assembler would make room for more programs, and spill.
        self.gradient_options = dict(**common, BV=CHUNK, num_warps=count_warps(dtype, self.q_dim), num_stages=1,
                                     maxnreg=255)
        # What a multiprocessor's registers hold at once.
        self.gradient_programs = 8 // self.gradient_options['num_warps'] * multiprocessors

        rows = self.walk_options['BV']
        self.walk_blocks = triton.cdiv(self.v_dim, rows)
        self.map_blocks = self.walk_blocks + triton.cdiv(self.q_dim, rows)
        # Whole intervals, as many as the scratch memory holds.
        self.slab = min(self.chunks, max(1, SCRATCH // (self.streams * chunk_bytes(dtype)) // INTERVAL) * INTERVAL)
        segments = count_segments(self.streams * self.walk_blocks, self.slab, multiprocessors)
        # Whole intervals: each is walked back from one kept gradient.
        self.segment = triton.cdiv(triton.cdiv(self.slab, segments), INTERVAL) * INTERVAL
        self.segments = triton.cdiv(self.slab, self.segment)
        self.sizes = length, height, width, code, batch, heads, self.streams

    def slabs(self):
        """(first, count): the chunks that are prepared at a time."""
        return [(first, min(self.slab, self.chunks - first)) for first in range(0, self.chunks, self.slab)]

    def numbers(self, *tokens, gates=False):
        """The strides of tensors (B, L, H, channels), but for the channels', and of the gates if asked for; the sizes."""
        strides = [x.stride()[:3] for x in tokens] + [gate.stride() for gate in self.gates if gates]
        return *sum(strides, ()), *self.sizes

    def gradient_scratch(self):
        """What the programs of `gradients` write to, (programs, floats of each)."""
        options = self.gradient_options
        rows = triton.cdiv(self.v_dim, options['BV']) * options['BV']
        # `size` of the kernel.
        floats = (INTERVAL + 1) * (2 * rows * (options['BK'] + CHUNK) + 4)
        jobs = triton.cdiv(self.slab, INTERVAL) * self.streams
        return self.new(min(jobs, self.gradient_programs), floats)

    def new(self, *shape, dtype=torch.float32):
        return torch.empty(shape, dtype=dtype, device=self.device)


def with_dense_channels(*tokens):
    """Tensors (B, L, H, channels), copied only where a token's channels do not lie together."""
    return [x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous() for x in tokens]


def chunk_bytes(dtype):
    """What is prepared of a chunk at most: two matrices in parts, and four rows of float32."""
    return 2 * PARTS[dtype] * dtype.itemsize * CHUNK * CHUNK + 4 * 4 * CHUNK


def padded(width):
    return max(16, triton.next_power_of_2(width))


def walk_blocks(dtype, q_dim, v_dim, streams, multiprocessors):
    """Rows of S per program, warps, and stages of loading.

    What a chunk takes apart from its state is computed by every program of a stream: wide blocks do it once. Where
    streams are few, narrow ones have fewer instructions to go through per chunk, and registers left to prefetch.
    """
    many = streams * triton.cdiv(v_dim, 32) >= 8 * multiprocessors
    rows = min(padded(v_dim), widest_block(dtype, q_dim) if many else 16)
    prefetches = rows == 16 and dtype.itemsize == 2
    return dict(BV=rows, num_warps=count_warps(dtype, q_dim), STAGES=2 if prefetches else 1)


def widest_block(dtype, q_dim):
    """The most rows of S that registers hold."""
    return 32 if dtype.itemsize == 2 and q_dim <= 64 else 16


def count_warps(dtype, q_dim):
    """The fewest whose registers hold a block; each more repeats the (CHUNK, CHUNK) matrices."""
    return {16: 1, 32: 1, 64: 2, 128: 2}[padded(q_dim)] if dtype.itemsize == 2 else \
        {16: 1, 32: 2, 64: 4, 128: 4}[padded(q_dim)]


def count_segments(programs, chunks, multiprocessors):
    """Into how many segments a stream is cut; uncut, `programs` walk at once. To find the maps is 1.4 walks more."""
    segments = min(8 * multiprocessors // programs, chunks // 16)
    return segments if segments > 2 else 1


@cache
def count_multiprocessors(device):
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == 'cuda' else H200_SMS
