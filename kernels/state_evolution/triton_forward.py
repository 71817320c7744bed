"""The forward walks of state evolution in Triton: the chunk form of chunked_body.py, a chunk of 16 tokens at a time.

What a chunk takes apart from the state that enters it has been found by `prepare`: one walk must wait for its own last
product, and the fewer and shorter its steps are, the sooner it is through.

Few streams cannot fill a GPU, so each may be cut into segments. Over any segment S' = S P + H: H is what the walk makes
of S = 0, P what it makes of S = I when v = 0. `walk` finds these maps for all segments at once, `compose` chains them,
and `walk` then starts every segment from the state that enters it.
"""
import triton
import triton.language as tl

from .triton_chunks import load_parts, load_ratios
from .triton_math import (CHUNK, dot, dot_exact_right, load_tokens, load_transposed, pixels_of, scan_of, state_places,
                          store_tokens)


@triton.jit
def errors(s, k, v_t, x0, x1, x2, predict, DOT: tl.constexpr, PARTS: tl.constexpr):
    """From the state before a chunk, s (BV, BK), and (I + A)^-1 in parts to U^T (BV, CHUNK); predict: r_{t-1,0}."""
    r_t = v_t - dot_exact_right(s, tl.trans(k), PARTS) * predict[None, :]
    return dot(r_t, tl.trans(x0), tl.trans(x1), tl.trans(x2), tl.zeros_like(r_t), DOT, PARTS)


@triton.jit
def written(s, k, u_t, write, left, PARTS: tl.constexpr):
    """The state after a chunk; write: e_t r_Ct, left: r_C0, once for each row."""
    return s * left[:, None] + dot_exact_right(u_t * write[None, :], k, PARTS)


@triton.jit(do_not_specialize=['length', 'height', 'width', 'directions', 'batch', 'heads', 'streams', 'first', 'count',
                               'segment'])
def walk(q, k, v, tiles, ratios, entry, o, last, states,
         q_b, q_t, q_h, k_b, k_t, k_h, v_b, v_t, v_h,
         length, height, width, directions, batch, heads, streams, first, count, segment,
         DK: tl.constexpr, DV: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, DOT: tl.constexpr, PARTS: tl.constexpr,
         READ_PARTS: tl.constexpr, NARROW: tl.constexpr, FAR: tl.constexpr, STAGES: tl.constexpr,
         HAS_ENTRY: tl.constexpr, MAP: tl.constexpr, INTERVAL: tl.constexpr):
    """Program (stream, block of rows, segment of `segment` of the `count` chunks from `first` on).

    Strides are in elements; those of channels are 1. tiles and ratios as from `prepare`.
    entry (segments, streams, DV, DK) if HAS_ENTRY, else zeros; o (D, B, L, H, DV); last (streams, DV, DK);
    states (boundaries, streams, DV, DK), one per INTERVAL chunks and the last one, if INTERVAL > 0.
    MAP: instead of o, writes H and below it P into last (segments, streams, DV + DK, DK).
    """
    stream = tl.program_id(0)
    first_row = tl.program_id(1) * BV
    part = tl.program_id(2)
    scan, sample, head, reverse, line, stride = scan_of(stream, directions, length, height, width, batch, heads)
    stream, sample = stream.to(tl.int64), sample.to(tl.int64)
    q += sample * q_b + head * q_h
    k += sample * k_b + head * k_h
    v += sample * v_b + head * v_h
    o += ((scan * batch + sample) * length * heads + head) * DV

    v_length = length
    if MAP:
        row_blocks: tl.constexpr = (DV + BV - 1) // BV
        finds_p = tl.program_id(1) >= row_blocks
        first_row = tl.where(finds_p, first_row - row_blocks * BV, first_row)
        v_length = tl.where(finds_p, 0, length)
    place, inside = state_places(first_row, DV, DK, BV, BK)
    matrix = (part * streams + stream) * DV * DK
    if MAP:
        diagonal = first_row + tl.arange(0, BV)[:, None] == tl.arange(0, BK)[None, :]
        s = tl.where(diagonal & finds_p, 1., 0.)
    elif HAS_ENTRY:
        s = tl.load(entry + matrix + place, inside, other=0.)
    else:
        s = tl.zeros((BV, BK), tl.float32)

    end = tl.minimum((part + 1) * segment, count)
    for n in tl.range(part * segment, end, num_stages=STAGES):
        if INTERVAL > 0:
            if n % INTERVAL == 0:
                boundary = ((first + n) // INTERVAL * streams + stream) * DV * DK
                tl.store(states + boundary + place, s, inside)
        token, pixel = pixels_of(first + n, reverse, line, stride, length, NARROW, FAR)
        exists = token < length
        k_c = load_tokens(k, pixel, exists, k_t, 0, DK, BK, DOT)
        v_c = load_transposed(v, pixel, token < v_length, v_t, first_row, DV, BV, DOT).to(tl.float32)
        number = n * streams + stream
        tile = tiles + number * ((PARTS + READ_PARTS) * CHUNK * CHUNK)
        x0, x1, x2 = load_parts(tile, PARTS)
        read, predict, write, left = load_ratios(ratios + number * (4 * CHUNK), BV)
        u_t = errors(s, k_c, v_c, x0, x1, x2, predict, DOT, PARTS)
        if not MAP:
            q_c = load_tokens(q, pixel, exists, q_t, 0, DK, BK, DOT)
            o_t = dot_exact_right(s, tl.trans(q_c), READ_PARTS) * read[None, :]
            m0, m1, m2 = load_parts(tile + PARTS * CHUNK * CHUNK, READ_PARTS)
            o_t = dot(u_t, tl.trans(m0), tl.trans(m1), tl.trans(m2), o_t, DOT, READ_PARTS)
            store_tokens(o, o_t, pixel, exists, heads * DV, first_row, DV, BV)
        s = written(s, k_c, u_t, write, left, PARTS)

    if MAP:
        rows = tl.where(finds_p, DK, DV)
        row = first_row + tl.arange(0, BV)[:, None]
        inside = (row < rows) & (tl.arange(0, BK) < DK)[None, :]
        block = (part * streams + stream) * (DV + DK) * DK + tl.where(finds_p, DV * DK, 0)
        tl.store(last + block + place, s, inside)
    elif end == count:
        tl.store(last + stream * DV * DK + place, s, inside)
        if INTERVAL > 0:
            boundary = (tl.cdiv(first + count, INTERVAL) * streams + stream) * DV * DK
            tl.store(states + boundary + place, s, inside)


@triton.jit(do_not_specialize=['streams', 'segments'])
def compose(maps, start, entry, streams, segments,
            DK: tl.constexpr, DV: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, HAS_START: tl.constexpr):
    """Program (stream, block of rows): S <- S P + H from segment to segment.

    maps (segments - 1, streams, DV + DK, DK): H over P. start (streams, DV, DK) if HAS_START, else zeros.
    entry (segments, streams, DV, DK): the state that enters each segment.
    """
    stream = tl.program_id(0).to(tl.int64)
    place, inside = state_places(tl.program_id(1) * BV, DV, DK, BV, BK)
    p_place, p_inside = state_places(0, DK, DK, BK, BK)
    s = tl.zeros((BV, BK), tl.float32)
    if HAS_START:
        s = tl.load(start + stream * DV * DK + place, inside, other=0.)
    tl.store(entry + stream * DV * DK + place, s, inside)
    for part in range(segments - 1):
        block = (part * streams + stream) * (DV + DK) * DK
        h = tl.load(maps + block + place, inside, other=0.)
        p = tl.load(maps + block + DV * DK + p_place, p_inside, other=0.)
        s = tl.dot(s, p, h, input_precision='tf32x3')
        tl.store(entry + ((part + 1) * streams + stream) * DV * DK + place, s, inside)
