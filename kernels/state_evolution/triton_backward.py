"""The backward walks of state evolution in Triton, chunk by chunk from the end.

Between chunks the gradient of the state walks as dS = dS' P^T + G, so that segments are cut and chained as in the
forward pass: `adjoint_walk` finds G (from dS' = 0) and P^T (from dS' = I, without gradients of o), and once `compose`
has chained them keeps dS every INTERVAL chunks, where the forward pass kept S. All else `gradients` finds for every
interval on its own. Names and formulas are chunked_body.py's, errors and states transposed as in triton_math.py.
"""
import triton
import triton.language as tl

from .triton_forward import errors, written
from .triton_math import (CHUNK, chunk_gates, chunk_total, dot, dot_exact_left, dot_exact_right, erase_ratios,
                          load_tokens, pixels_of, read_ratios, scan_of, state_places, store_tokens, unit_inverse)


@triton.jit
def retreat(d_s, q, k, d_o_t, x_t, m_t, log_w, g, e, DOT: tl.constexpr, PARTS: tl.constexpr):
    """From the gradient of the state after a chunk, d_s (BV, BK), to Z^T = dV^T (BV, CHUNK) and that before the chunk.

    d_o_t (BV, CHUNK) as given; x_t = (I + A)^-T and m_t = M^T (CHUNK, CHUNK).
    """
    total = chunk_total(g)
    nothing = tl.zeros(d_o_t.shape, tl.float32)
    d_u_t = dot_exact_right(d_s, tl.trans(k), nothing, PARTS) * (e * tl.exp2(total - g))[None, :]
    z_t = dot(dot_exact_left(d_o_t, tl.trans(m_t), d_u_t, PARTS), tl.trans(x_t), nothing, DOT, PARTS)
    d_s = dot_exact_right(d_o_t.to(tl.float32) * tl.exp2(g)[None, :], q, d_s * tl.exp2(total), PARTS)
    return z_t, dot_exact_right(-z_t * tl.exp2(g - log_w)[None, :], k, d_s, PARTS)


@triton.jit(do_not_specialize=['length', 'height', 'width', 'directions', 'batch', 'heads', 'streams', 'segment',
                               'w_d', 'w_b', 'e_d', 'e_b'])
def adjoint_walk(q, k, d_o, log_decay, step_size, leaving, d_states, d_initial,
                 q_b, q_t, q_h, k_b, k_t, k_h, o_b, o_t, o_h, w_d, w_b, w_t, w_h, e_d, e_b, e_t, e_h,
                 length, height, width, directions, batch, heads, streams, segment,
                 DK: tl.constexpr, DV: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, DOT: tl.constexpr,
                 PARTS: tl.constexpr, NARROW: tl.constexpr, HAS_D_O: tl.constexpr, HAS_LEAVING: tl.constexpr,
                 MAP: tl.constexpr, INTERVAL: tl.constexpr):
    """Program (stream, block of rows, n-th of the segments counted from the end).

    leaving (segments, streams, DV, DK), counted from the end, if HAS_LEAVING, else zeros; d_initial (streams, DV, DK);
    d_states (intervals, streams, DV, DK): the gradient of the state that leaves each interval of INTERVAL chunks.
    MAP: writes only G and below it P^T into d_initial (segments, streams, DV + DK, DK), counted from the end.
    """
    stream = tl.program_id(0)
    first_row = tl.program_id(1) * BV
    scan, sample, head, reverse, line, stride = scan_of(stream, directions, length, height, width, batch, heads)
    stream, sample, scan = stream.to(tl.int64), sample.to(tl.int64), scan.to(tl.int64)
    q += sample * q_b + head * q_h
    k += sample * k_b + head * k_h
    d_o += sample * o_b + head * o_h
    log_decay += scan * w_d + sample * w_b + head * w_h
    step_size += scan * e_d + sample * e_b + head * e_h

    rows, o_length = DV, (length if HAS_D_O else 0)
    if MAP:
        row_blocks: tl.constexpr = (DV + BV - 1) // BV
        finds_p = tl.program_id(1) >= row_blocks
        first_row = tl.where(finds_p, first_row - row_blocks * BV, first_row)
        rows, o_length = tl.where(finds_p, DK, DV), tl.where(finds_p, 0, o_length)
    place, inside = state_places(first_row, rows, DK, BV, BK)
    if MAP:
        diagonal = first_row + tl.arange(0, BV)[:, None] == tl.arange(0, BK)[None, :]
        d_s = tl.where(diagonal & finds_p, 1., 0.)
    elif HAS_LEAVING:
        d_s = tl.load(leaving + (tl.program_id(2) * streams + stream) * DV * DK + place, inside, other=0.)
    else:
        d_s = tl.zeros((BV, BK), tl.float32)

    chunks = tl.cdiv(length, CHUNK)
    part = tl.cdiv(chunks, segment) - 1 - tl.program_id(2)
    end = tl.minimum((part + 1) * segment, chunks)
    for n in range(end - part * segment):
        chunk = end - 1 - n
        if not MAP:
            if (n == 0) | (chunk % INTERVAL == INTERVAL - 1):
                tl.store(d_states + (chunk // INTERVAL * streams + stream) * DV * DK + place, d_s, inside)
        token, pixel = pixels_of(chunk, reverse, line, stride, length, NARROW)
        exists = token < length
        log_w, g, e = chunk_gates(log_decay, step_size, pixel, exists, w_t, e_t)
        q_c = load_tokens(q, pixel, exists, q_t, 0, DK, BK, DOT)
        k_c = load_tokens(k, pixel, exists, k_t, 0, DK, BK, DOT)
        d_o_c = load_tokens(d_o, pixel, token < o_length, o_t, first_row, DV, BV, DOT)
        erase, erase_t = erase_ratios(log_w, g)
        _, read_t = read_ratios(erase, erase_t, log_w)
        k_k = tl.dot(k_c, tl.trans(k_c), input_precision='tf32x3')
        _, x_t = unit_inverse(k_k * erase * e[None, :], k_k * erase_t * e[:, None], DOT)
        m_t = tl.dot(k_c, tl.trans(q_c), input_precision='tf32x3') * read_t * e[:, None]
        _, d_s = retreat(d_s, q_c, k_c, tl.trans(d_o_c), x_t, m_t, log_w, g, e, DOT, PARTS)

    if MAP:
        block = (tl.program_id(2) * streams + stream) * (DV + DK) * DK + tl.where(finds_p, DV * DK, 0)
        tl.store(d_initial + block + place, d_s, inside)
    elif part == 0:
        tl.store(d_initial + stream * DV * DK + place, d_s, inside)


@triton.jit(do_not_specialize=['length', 'height', 'width', 'directions', 'batch', 'heads', 'streams', 'segment',
                               'w_d', 'w_b', 'e_d', 'e_b', 'jobs'])
def gradients(q, k, v, d_o, log_decay, step_size, states, d_states, scratch,
              d_q, d_k, d_v, d_log_decay, d_step_size,
              q_b, q_t, q_h, k_b, k_t, k_h, v_b, v_t, v_h, o_b, o_t, o_h, w_d, w_b, w_t, w_h, e_d, e_b, e_t, e_h,
              length, height, width, directions, batch, heads, streams, segment, jobs,
              DK: tl.constexpr, DV: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, DOT: tl.constexpr,
              PARTS: tl.constexpr, NARROW: tl.constexpr, HAS_D_O: tl.constexpr, INTERVAL: tl.constexpr):
    """Any number of programs share the jobs (interval, block of rows, stream).

    states, d_states (boundaries, streams, DV, DK); scratch: INTERVAL * (BV * BK + (BV + CHUNK) * CHUNK) floats for each
    program. Written are, with R blocks of rows, d_q, d_k (R, D, B, L, H, DK), d_v (D, B, L, H, DV), d_log_decay and
    d_step_size (R, D, B, L, H).
    """
    # S, dS', (I + A)^-T, U^T, Z^T and <S', dS'> of a chunk, in 16-byte pieces.
    size: tl.constexpr = 2 * BV * (BK + CHUNK) + CHUNK * CHUNK + 4
    row_blocks: tl.constexpr = (DV + BV - 1) // BV
    o_length = length if HAS_D_O else 0
    for job in range(tl.program_id(0), jobs, tl.num_programs(0)):
        stream = job % streams
        row_block = job // streams % row_blocks
        interval = job // streams // row_blocks
        first_row = row_block * BV
        scan, sample, head, reverse, line, stride = scan_of(stream, directions, length, height, width, batch, heads)
        tokens = (scan * batch + sample) * tl.cast(length, tl.int64)
        partial_tokens = tokens + row_block * (streams // heads) * tl.cast(length, tl.int64)
        q_s = q + sample * tl.cast(q_b, tl.int64) + head * q_h
        k_s = k + sample * tl.cast(k_b, tl.int64) + head * k_h
        v_s = v + sample * tl.cast(v_b, tl.int64) + head * v_h
        d_o_s = d_o + sample * tl.cast(o_b, tl.int64) + head * o_h
        w_s = log_decay + scan * tl.cast(w_d, tl.int64) + sample * tl.cast(w_b, tl.int64) + head * w_h
        e_s = step_size + scan * tl.cast(e_d, tl.int64) + sample * tl.cast(e_b, tl.int64) + head * e_h

        # What the three walks along an interval pass on.
        row, column = tl.arange(0, BV)[:, None], tl.arange(0, CHUNK)[None, :]
        own = scratch + (job % tl.num_programs(0)).to(tl.int64) * INTERVAL * size
        s_kept = own + row * BK + tl.arange(0, BK)[None, :]
        d_s_kept = s_kept + BV * BK
        own += 2 * BV * BK
        x_kept = own + tl.arange(0, CHUNK)[:, None] * CHUNK + column
        own += CHUNK * CHUNK
        u_kept = own + row * CHUNK + column
        z_kept = u_kept + BV * CHUNK
        through_kept = own + 2 * BV * CHUNK
        place, inside = state_places(first_row, DV, DK, BV, BK)
        boundary = (interval * streams + stream) * tl.cast(DV * DK, tl.int64) + place
        first = interval * INTERVAL
        steps = tl.minimum(tl.cdiv(length, CHUNK) - first, INTERVAL)
        tl.debug_barrier()    # The last job's states may still be read.
        s = tl.load(states + boundary, inside, other=0.)
        for n in range(steps):
            token, pixel = pixels_of(first + n, reverse, line, stride, length, NARROW)
            exists = token < length
            log_w, g, e = chunk_gates(w_s, e_s, pixel, exists, w_t, e_t)
            k_c = load_tokens(k_s, pixel, exists, k_t, 0, DK, BK, DOT)
            v_c = tl.trans(load_tokens(v_s, pixel, exists, v_t, first_row, DV, BV, DOT)).to(tl.float32)
            erase, erase_t = erase_ratios(log_w, g)
            _, x_t, u_t = errors(s, k_c, v_c, log_w, g, e, erase, erase_t, DOT, PARTS)
            tl.store(s_kept + n * size, s)
            tl.store(u_kept + n * size, u_t)
            tl.store(x_kept + n * size, x_t)
            s = written(s, k_c, u_t, log_w, g, e, PARTS)
        tl.debug_barrier()    # What one thread stored another loads.

        d_s = tl.load(d_states + boundary, inside, other=0.)
        for n in range(steps):
            chunk = steps - 1 - n
            token, pixel = pixels_of(first + chunk, reverse, line, stride, length, NARROW)
            exists = token < length
            log_w, g, e = chunk_gates(w_s, e_s, pixel, exists, w_t, e_t)
            q_c = load_tokens(q_s, pixel, exists, q_t, 0, DK, BK, DOT)
            k_c = load_tokens(k_s, pixel, exists, k_t, 0, DK, BK, DOT)
            d_o_c = load_tokens(d_o_s, pixel, token < o_length, o_t, first_row, DV, BV, DOT)
            erase, erase_t = erase_ratios(log_w, g)
            _, read_t = read_ratios(erase, erase_t, log_w)
            m_t = tl.dot(k_c, tl.trans(q_c), input_precision='tf32x3') * read_t * e[:, None]
            tl.store(d_s_kept + chunk * size, d_s)
            tl.store(through_kept + chunk * size, tl.sum(s * d_s))    # <S', dS'>
            s, x_t = tl.load(s_kept + chunk * size), tl.load(x_kept + chunk * size)
            z_t, d_s = retreat(d_s, q_c, k_c, tl.trans(d_o_c), x_t, m_t, log_w, g, e, DOT, PARTS)
            tl.store(z_kept + chunk * size, z_t)
            store_tokens(d_v + (tokens * heads + head) * DV, z_t, pixel, exists, heads * DV, first_row, DV, BV)
        tl.debug_barrier()

        for chunk in range(steps):
            token, pixel = pixels_of(first + chunk, reverse, line, stride, length, NARROW)
            exists = token < length
            log_w, g, e = chunk_gates(w_s, e_s, pixel, exists, w_t, e_t)
            q_c = load_tokens(q_s, pixel, exists, q_t, 0, DK, BK, DOT)
            k_c = load_tokens(k_s, pixel, exists, k_t, 0, DK, BK, DOT)
            d_o_c = load_tokens(d_o_s, pixel, token < o_length, o_t, first_row, DV, BV, DOT)
            u_t, z_t = tl.load(u_kept + chunk * size), tl.load(z_kept + chunk * size)
            u, z = tl.trans(u_t), tl.trans(z_t)
            erase, erase_t = erase_ratios(log_w, g)
            read, read_t = read_ratios(erase, erase_t, log_w)
            square, rows = tl.zeros((CHUNK, CHUNK), tl.float32), tl.zeros((CHUNK, BK), tl.float32)

            s = tl.load(s_kept + chunk * size)
            d_q_c = dot_exact_left(d_o_c, s, rows, PARTS) * tl.exp2(g)[:, None]
            d_predict = dot(-z, s, rows, DOT, PARTS) * tl.exp2(g - log_w)[:, None]
            # Gradients of e_s q_t . k_s and -e_s k_t . k_s.
            d_read = dot_exact_left(d_o_c, u_t, square, PARTS) * read
            d_q_c = dot_exact_right(d_read * e[None, :], k_c, d_q_c, PARTS)
            d_erase = dot(z, u_t, square, DOT, PARTS) * erase
            # k_t acts twice: it predicts, and it writes, scaled by e_t.
            d_predict = dot_exact_right(d_erase * -e[None, :], k_c, d_predict, PARTS)
            d_s = tl.load(d_s_kept + chunk * size)
            d_write = dot(u, d_s, rows, DOT, PARTS) * tl.exp2(chunk_total(g) - g)[:, None]
            d_read_t = dot_exact_right(u, tl.trans(d_o_c), square, PARTS) * read_t
            d_write = dot_exact_right(d_read_t, q_c, d_write, PARTS)
            d_erase_t = dot(u, z_t, square, DOT, PARTS) * erase_t
            d_write = dot_exact_right(-d_erase_t, k_c, d_write, PARTS)
            d_q_t, d_k_t = tl.trans(d_q_c), tl.trans(d_predict + d_write * e[:, None])
            store_tokens(d_q + (partial_tokens * heads + head) * DK, d_q_t, pixel, exists, heads * DK, 0, DK, BK)
            store_tokens(d_k + (partial_tokens * heads + head) * DK, d_k_t, pixel, exists, heads * DK, 0, DK, BK)

            # log w_t scales every ratio that spans token t: from sources before t to sinks at t or, for predictions,
            # past t.
            k_f = k_c.to(tl.float32)
            d_e = tl.sum(k_f * d_write, 1)
            past = tl.sum(k_f * d_predict, 1)
            spanned = tl.sum(q_c.to(tl.float32) * d_q_c, 1) - e * d_e + past
            d_log_w = tl.cumsum(spanned, 0, reverse=True) - past + tl.load(through_kept + chunk * size)
            gate = (partial_tokens + pixel) * heads + head
            tl.store(d_log_decay + gate, d_log_w.to(d_log_decay.dtype.element_ty), exists)
            tl.store(d_step_size + gate, d_e.to(d_step_size.dtype.element_ty), exists)
