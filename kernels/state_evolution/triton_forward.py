"""The forward walks of state evolution in Triton: the chunk form of chunked_body.py, a chunk of 16 tokens at a time.

Few streams cannot fill a GPU, so each may be cut into segments. Over any segment S' = S P + H: H is what the walk makes
of S = 0, P what it makes of S = I when v = 0. `walk` finds these maps for all segments at once, `compose` chains them,
and `walk` then starts every segment from the state that enters it.
"""
import triton
import triton.language as tl

from .triton_math import (CHUNK, chunk_gates, chunk_inverse, chunk_total, dot, dot_exact_right, erase_ratios,
                          load_tokens, pixels_of, read_ratios, scan_of, state_places, store_tokens)


@triton.jit
def errors(s, k, v_t, x, log_w, g, DOT: tl.constexpr, PARTS: tl.constexpr):
    """From the state before a chunk, s (BV, BK), and x = (I + A)^-1 to U^T (BV, CHUNK)."""
    r_t = v_t - dot_exact_right(s, tl.trans(k), PARTS) * tl.exp2(g - log_w)[None, :]
    return dot(r_t, tl.trans(x), tl.zeros_like(r_t), DOT, PARTS)


@triton.jit
def written(s, k, u_t, g, e, total, PARTS: tl.constexpr):
    """The state after a chunk, `total` as of chunk_total."""
    return s * tl.exp2(total) + dot_exact_right(u_t * (e * tl.exp2(total - g))[None, :], k, PARTS)


@triton.jit(do_not_specialize=['length', 'height', 'width', 'directions', 'batch', 'heads', 'streams', 'segment',
                               'w_d', 'w_b', 'e_d', 'e_b'])
def walk(q, k, v, log_decay, step_size, entry, o, last, states,
         q_b, q_t, q_h, k_b, k_t, k_h, v_b, v_t, v_h, w_d, w_b, w_t, w_h, e_d, e_b, e_t, e_h,
         length, height, width, directions, batch, heads, streams, segment,
         DK: tl.constexpr, DV: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, DOT: tl.constexpr, PARTS: tl.constexpr,
         NARROW: tl.constexpr, HAS_ENTRY: tl.constexpr, MAP: tl.constexpr, INTERVAL: tl.constexpr):
    """Program (stream, block of rows, segment of `segment` chunks). Strides are in elements; those of channels are 1.

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
    log_decay += scan.to(tl.int64) * w_d + sample * w_b + head * w_h
    step_size += scan.to(tl.int64) * e_d + sample * e_b + head * e_h
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

    chunks = tl.cdiv(length, CHUNK)
    end = tl.minimum((part + 1) * segment, chunks)
    for chunk in range(part * segment, end):
        if INTERVAL > 0:
            if chunk % INTERVAL == 0:
                boundary = (chunk // INTERVAL * streams + stream) * DV * DK
                tl.store(states + boundary + place, s, inside)
        token, pixel = pixels_of(chunk, reverse, line, stride, length, NARROW)
        exists = token < length
        log_w, g, e = chunk_gates(log_decay, step_size, pixel, exists, w_t, e_t)
        k_c = load_tokens(k, pixel, exists, k_t, 0, DK, BK, DOT)
        v_c = tl.trans(load_tokens(v, pixel, token < v_length, v_t, first_row, DV, BV, DOT)).to(tl.float32)
        erase, erase_t = erase_ratios(log_w, g)
        x, _ = chunk_inverse(k_c, e, erase, erase_t, DOT)
        u_t = errors(s, k_c, v_c, x, log_w, g, DOT, PARTS)
        if not MAP:
            q_c = load_tokens(q, pixel, exists, q_t, 0, DK, BK, DOT)
            o_t = dot_exact_right(s, tl.trans(q_c), PARTS) * tl.exp2(g)[None, :]
            read, _ = read_ratios(erase, erase_t, log_w)
            m = tl.dot(q_c, tl.trans(k_c), input_precision='tf32x3') * read * e[None, :]
            o_t = dot(u_t, tl.trans(m), o_t, DOT, 2)    # as much as an output of 16 bits holds
            store_tokens(o, o_t, pixel, exists, heads * DV, first_row, DV, BV)
        s = written(s, k_c, u_t, g, e, chunk_total(g, token, length), PARTS)

    if MAP:
        rows = tl.where(finds_p, DK, DV)
        row = first_row + tl.arange(0, BV)[:, None]
        inside = (row < rows) & (tl.arange(0, BK) < DK)[None, :]
        block = (part * streams + stream) * (DV + DK) * DK + tl.where(finds_p, DV * DK, 0)
        tl.store(last + block + place, s, inside)
    elif end == chunks:
        tl.store(last + stream * DV * DK + place, s, inside)
        if INTERVAL > 0:
            boundary = (tl.cdiv(chunks, INTERVAL) * streams + stream) * DV * DK
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
