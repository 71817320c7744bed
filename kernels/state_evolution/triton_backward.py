"""The backward walks of state evolution in Triton, chunk by chunk from the end.

Between chunks the gradient of the state walks as dS = dS' P^T + G, so that segments are cut and chained as in the
forward pass: `adjoint_walk` finds G (from dS' = 0) and P^T (from dS' = I, without gradients of o), and once `compose`
has chained them keeps dS every INTERVAL chunks, where the forward pass kept S. All else `gradients` finds for every
interval on its own. Names and formulas are chunked_body.py's, errors and states transposed as in triton_math.py.

Without disable_licm the compiler would hoist more addresses out of the loops than registers hold.
"""
import triton
import triton.language as tl

from .triton_chunks import load_parts, load_ratios
from .triton_forward import errors, written
from .triton_math import (CHUNK, chunk_gates, chunk_total, dot, dot_exact_left, dot_exact_right, erase_ratios,
                          load_tokens, load_transposed, pixels_of, scan_of, split, state_places, store_tokens)


@triton.jit
def retreat(d_s, q, k, d_o_t, tile, ratio, DOT: tl.constexpr, PARTS: tl.constexpr):
    """From the gradient of the state after a chunk, d_s (BV, BK), to Z^T = dV^T (BV, CHUNK) and that before the chunk.

    d_o_t (BV, CHUNK) as given; tile, ratio: where what `prepare` has found of the chunk lies.
    """
    x0, x1, x2 = load_parts(tile, PARTS)
    m0, m1, m2 = load_parts(tile + PARTS * CHUNK * CHUNK, PARTS)
    read, predict, write, left = load_ratios(ratio, d_s.shape[0])
    d_u_t = dot_exact_right(d_s, tl.trans(k), PARTS) * write[None, :]
    d_u_t = dot_exact_left(d_o_t, m0, m1, m2, d_u_t, PARTS)
    z_t = dot(d_u_t, x0, x1, x2, tl.zeros(d_o_t.shape, tl.float32), DOT, PARTS)
    d_s = d_s * left[:, None] + dot_exact_right(d_o_t.to(tl.float32) * read[None, :], q, PARTS)
    return z_t, d_s + dot_exact_right(-z_t * predict[None, :], k, PARTS)


@triton.jit(do_not_specialize=['length', 'height', 'width', 'directions', 'batch', 'heads', 'streams', 'first', 'count',
                               'segment'])
def adjoint_walk(q, k, d_o, tiles, ratios, leaving, d_states, d_initial,
                 q_b, q_t, q_h, k_b, k_t, k_h, o_b, o_t, o_h,
                 length, height, width, directions, batch, heads, streams, first, count, segment,
                 DK: tl.constexpr, DV: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, DOT: tl.constexpr,
                 PARTS: tl.constexpr, NARROW: tl.constexpr, FAR: tl.constexpr, STAGES: tl.constexpr,
                 HAS_D_O: tl.constexpr, HAS_LEAVING: tl.constexpr, MAP: tl.constexpr, INTERVAL: tl.constexpr):
    """Program (stream, block of rows, n-th of the segments of `count` chunks from `first` on, counted from the end).

    tiles and ratios as from `prepare`, M in as many parts as X. leaving (segments, streams, DV, DK), counted from the
    end, if HAS_LEAVING, else zeros; d_initial (streams, DV, DK); d_states (intervals, streams, DV, DK): the gradient of
    the state that leaves each interval of INTERVAL of these chunks.
    MAP: writes only G and below it P^T into d_initial (segments, streams, DV + DK, DK), counted from the end.
    """
    stream = tl.program_id(0)
    first_row = tl.program_id(1) * BV
    scan, sample, head, reverse, line, stride = scan_of(stream, directions, length, height, width, batch, heads)
    stream, sample = stream.to(tl.int64), sample.to(tl.int64)
    q += sample * q_b + head * q_h
    k += sample * k_b + head * k_h
    d_o += sample * o_b + head * o_h

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

    part = tl.cdiv(count, segment) - 1 - tl.program_id(2)
    end = tl.minimum((part + 1) * segment, count)
    for i in tl.range(end - part * segment, num_stages=STAGES, disable_licm=True):
        n = end - 1 - i
        if not MAP:
            if i == 0 or n % INTERVAL == INTERVAL - 1:
                tl.store(d_states + (n // INTERVAL * streams + stream) * DV * DK + place, d_s, inside)
        token, pixel = pixels_of(first + n, reverse, line, stride, length, NARROW, FAR)
        exists = token < length
        q_c = load_tokens(q, pixel, exists, q_t, 0, DK, BK, DOT)
        k_c = load_tokens(k, pixel, exists, k_t, 0, DK, BK, DOT)
        d_o_t = load_transposed(d_o, pixel, token < o_length, o_t, first_row, DV, BV, DOT)
        number = n * streams + stream
        tile, ratio = tiles + number * (2 * PARTS * CHUNK * CHUNK), ratios + number * (4 * CHUNK)
        _, d_s = retreat(d_s, q_c, k_c, d_o_t, tile, ratio, DOT, PARTS)

    if MAP:
        block = (tl.program_id(2) * streams + stream) * (DV + DK) * DK + tl.where(finds_p, DV * DK, 0)
        tl.store(d_initial + block + place, d_s, inside)
    elif part == 0:
        tl.store(d_initial + stream * DV * DK + place, d_s, inside)


@triton.jit
def of_keys(s, d_s, u_t, z_t, d_predict, d_erase, d_write, DOT: tl.constexpr, PARTS: tl.constexpr):
    """Adds what one block of rows has for the gradients of k as it predicts, of k_t . k_s, and of k as it writes.

    s, d_s (BV, BK): the state before the chunk, the gradient of that after it; u_t, z_t (BV, CHUNK).
    """
    z = tl.trans(z_t)
    s0, s1, s2 = split(s, DOT, PARTS)
    u0, u1, u2 = split(u_t, DOT, PARTS)
    d0, d1, d2 = split(d_s, DOT, PARTS)
    return (dot(z, s0, s1, s2, d_predict, DOT, PARTS), dot(z, u0, u1, u2, d_erase, DOT, PARTS),
            dot(tl.trans(u_t), d0, d1, d2, d_write, DOT, PARTS))


@triton.jit(do_not_specialize=['length', 'height', 'width', 'directions', 'batch', 'heads', 'streams', 'first', 'count',
                               'w_d', 'w_b', 'e_d', 'e_b'])
def gradients(q, k, v, d_o, log_decay, step_size, tiles, ratios, states, d_states, scratch,
              d_q, d_k, d_v, d_log_decay, d_step_size,
              q_b, q_t, q_h, k_b, k_t, k_h, v_b, v_t, v_h, o_b, o_t, o_h, w_d, w_b, w_t, w_h, e_d, e_b, e_t, e_h,
              length, height, width, directions, batch, heads, streams, first, count,
              DK: tl.constexpr, DV: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, DOT: tl.constexpr,
              PARTS: tl.constexpr, NARROW: tl.constexpr, FAR: tl.constexpr, STAGES: tl.constexpr,
              HAS_D_O: tl.constexpr, INTERVAL: tl.constexpr):
    """Any number of programs share the jobs (interval of the `count` chunks from `first` on, stream).

    tiles, ratios and d_states as for and from `adjoint_walk`; states (boundaries, streams, DV, DK); scratch:
    (INTERVAL + 1) * `size` floats for each program. Written are d_q, d_k (D, B, L, H, DK), d_v (D, B, L, H, DV),
    d_log_decay and d_step_size (D, B, L, H).

    States are too wide for the registers: they stay in the scratch, from where blocks of BV rows are taken in turn.
    """
    rows: tl.constexpr = (DV + BV - 1) // BV * BV
    # S and dS before a chunk, its U^T and Z^T, and <S', dS'> row by row.
    size: tl.constexpr = rows * (2 * (BK + CHUNK) + 1)
    # Operands that are split for tf32x3 fill the registers: what k's gradient needs waits until q's is stored.
    one_by_one: tl.constexpr = rows == BV and DOT == tl.float32
    o_length = length if HAS_D_O else 0
    jobs = tl.cdiv(count, INTERVAL) * streams
    for job in tl.range(tl.program_id(0), jobs, tl.num_programs(0), disable_licm=True):
        stream = job % streams
        interval = job // streams
        scan, sample, head, reverse, line, stride = scan_of(stream, directions, length, height, width, batch, heads)
        k_s = k + sample * tl.cast(k_b, tl.int64) + head * k_h
        v_s = v + sample * tl.cast(v_b, tl.int64) + head * v_h

        # What the three walks along an interval pass on.
        own = scratch + tl.program_id(0).to(tl.int64) * (INTERVAL + 1) * size
        row, column = tl.arange(0, BV)[:, None], tl.arange(0, CHUNK)[None, :]
        s_place = row * BK + tl.arange(0, BK)[None, :]
        u_place = row * CHUNK + column
        boundary = ((first // INTERVAL + interval) * streams + stream) * tl.cast(DV * DK, tl.int64)
        d_boundary = (interval * streams + stream) * tl.cast(DV * DK, tl.int64)
        start = interval * INTERVAL
        steps = tl.minimum(count - start, INTERVAL)
        tl.debug_barrier()    # The last job's states may still be read.
        for block in range(0, rows, BV):
            place, inside = state_places(block, DV, DK, BV, BK)
            s = tl.load(states + boundary + place, inside, other=0.)
            for n in tl.range(steps, num_stages=STAGES, disable_licm=True):
                token, pixel = pixels_of(first + start + n, reverse, line, stride, length, NARROW, FAR)
                exists = token < length
                k_c = load_tokens(k_s, pixel, exists, k_t, 0, DK, BK, DOT)
                v_c = load_transposed(v_s, pixel, exists, v_t, block, DV, BV, DOT).to(tl.float32)
                number = (start + n) * streams + tl.cast(stream, tl.int64)
                x0, x1, x2 = load_parts(tiles + number * (2 * PARTS * CHUNK * CHUNK), PARTS)
                _, predict, write, left = load_ratios(ratios + number * (4 * CHUNK), BV)
                u_t = errors(s, k_c, v_c, x0, x1, x2, predict, DOT, PARTS)
                tl.store(own + (n * size + block * BK) + s_place, s)
                tl.store(own + (n * size + 2 * rows * BK + block * CHUNK) + u_place, u_t)
                s = written(s, k_c, u_t, write, left, PARTS)
            tl.store(own + (steps * size + block * BK) + s_place, s)

        q_s = q + sample * tl.cast(q_b, tl.int64) + head * q_h
        d_o_s = d_o + sample * tl.cast(o_b, tl.int64) + head * o_h
        tokens = (scan * batch + sample) * tl.cast(length, tl.int64)
        tl.debug_barrier()    # What one thread stored another loads.
        for block in range(0, rows, BV):
            place, inside = state_places(block, DV, DK, BV, BK)
            d_s = tl.load(d_states + d_boundary + place, inside, other=0.)
            for i in tl.range(steps, num_stages=STAGES, disable_licm=True):
                n = steps - 1 - i
                token, pixel = pixels_of(first + start + n, reverse, line, stride, length, NARROW, FAR)
                exists = token < length
                q_c = load_tokens(q_s, pixel, exists, q_t, 0, DK, BK, DOT)
                k_c = load_tokens(k_s, pixel, exists, k_t, 0, DK, BK, DOT)
                d_o_t = load_transposed(d_o_s, pixel, token < o_length, o_t, block, DV, BV, DOT)
                number = (start + n) * streams + tl.cast(stream, tl.int64)
                tile, ratio = tiles + number * (2 * PARTS * CHUNK * CHUNK), ratios + number * (4 * CHUNK)
                tl.store(own + ((n + 1) * size + (rows + block) * BK) + s_place, d_s)
                through = tl.sum(tl.load(own + ((n + 1) * size + block * BK) + s_place) * d_s, 1)
                tl.store(own + (n * size + 2 * rows * (BK + CHUNK) + block) + tl.arange(0, BV), through)
                z_t, d_s = retreat(d_s, q_c, k_c, d_o_t, tile, ratio, DOT, PARTS)
                tl.store(own + (n * size + 2 * rows * BK + (rows + block) * CHUNK) + u_place, z_t)
                store_tokens(d_v + (tokens * heads + head) * DV, z_t, pixel, exists, heads * DV, block, DV, BV)
        tl.debug_barrier()    # As before.

        w_s = log_decay + scan * tl.cast(w_d, tl.int64) + sample * tl.cast(w_b, tl.int64) + head * w_h
        e_s = step_size + scan * tl.cast(e_d, tl.int64) + sample * tl.cast(e_b, tl.int64) + head * e_h
        for n in tl.range(steps, disable_licm=True):
            token, pixel = pixels_of(first + start + n, reverse, line, stride, length, NARROW, FAR)
            exists = token < length
            # First what is linear in the states, over all rows; decays follow.
            d_q_c = tl.zeros((CHUNK, BK), tl.float32)
            d_predict, d_write = d_q_c, d_q_c
            d_read = tl.zeros((CHUNK, CHUNK), tl.float32)
            d_erase = d_read
            through = tl.zeros((BV, ), tl.float32)
            for block in tl.range(0, rows, BV, disable_licm=True):
                d_o_c = load_tokens(d_o_s, pixel, token < o_length, o_t, block, DV, BV, DOT)
                s = tl.load(own + (n * size + block * BK) + s_place)
                u_t = tl.load(own + (n * size + 2 * rows * BK + block * CHUNK) + u_place)
                s0, s1, s2 = split(s, DOT, PARTS)
                u0, u1, u2 = split(u_t, DOT, PARTS)
                d_q_c = dot_exact_left(d_o_c, s0, s1, s2, d_q_c, PARTS)
                d_read = dot_exact_left(d_o_c, u0, u1, u2, d_read, PARTS)
                through += tl.load(own + (n * size + 2 * rows * (BK + CHUNK) + block) + tl.arange(0, BV))
                if not one_by_one:
                    z_t = tl.load(own + (n * size + 2 * rows * BK + (rows + block) * CHUNK) + u_place)
                    d_s = tl.load(own + ((n + 1) * size + (rows + block) * BK) + s_place)
                    d_predict, d_erase, d_write = of_keys(s, d_s, u_t, z_t, d_predict, d_erase, d_write, DOT, PARTS)

            log_w, g, e = chunk_gates(w_s, e_s, pixel, exists, w_t, e_t)
            q_c = load_tokens(q_s, pixel, exists, q_t, 0, DK, BK, DOT)
            k_c = load_tokens(k_s, pixel, exists, k_t, 0, DK, BK, DOT)
            erase, erase_t = erase_ratios(log_w, g)
            w = tl.exp2(log_w)
            # What a token reads of its own writing no decay touches: kept apart, for it would cancel in d_log_w.
            at_once = tl.sum(tl.where(column == tl.arange(0, CHUNK)[:, None], d_read, 0.), 1)
            # The gradient of e_s q_t . k_s, s < t.
            d_read_t = tl.trans(d_read) * erase_t * w[None, :]
            d_read = d_read * erase * w[:, None] * e[None, :]
            q_f, k_f = q_c.to(tl.float32), k_c.to(tl.float32)
            d_q_c = d_q_c * tl.exp2(g)[:, None] + dot_exact_right(d_read, k_c, PARTS)
            spanned = tl.sum(q_f * d_q_c, 1)
            d_q_t = tl.trans(d_q_c + (at_once * e)[:, None] * k_f)
            store_tokens(d_q + (tokens * heads + head) * DK, d_q_t, pixel, exists, heads * DK, 0, DK, BK)
            if one_by_one:
                s, u_t = tl.load(own + n * size + s_place), tl.load(own + (n * size + 2 * rows * BK) + u_place)
                z_t = tl.load(own + (n * size + 2 * rows * BK + rows * CHUNK) + u_place)
                d_s = tl.load(own + ((n + 1) * size + rows * BK) + s_place)
                d_predict, d_erase, d_write = of_keys(s, d_s, u_t, z_t, d_predict, d_erase, d_write, DOT, PARTS)
            # The gradient of -e_s k_t . k_s, s < t.
            d_erase_t, d_erase = tl.trans(d_erase) * erase_t, d_erase * erase * e[None, :]
            # k_t acts twice: it predicts, whence minus d_predict, and it writes, scaled by e_t.
            d_predict = d_predict * tl.exp2(g - log_w)[:, None] + dot_exact_right(d_erase, k_c, PARTS)
            left = tl.exp2(chunk_total(g, token, length) - g)
            d_write = d_write * left[:, None] + dot_exact_right(d_read_t, q_c, PARTS)
            d_write += dot_exact_right(-d_erase_t, k_c, PARTS)
            d_k_t = tl.trans((d_write + at_once[:, None] * q_f) * e[:, None] - d_predict)
            store_tokens(d_k + (tokens * heads + head) * DK, d_k_t, pixel, exists, heads * DK, 0, DK, BK)

            # log w_t scales every ratio that spans token t: from sources before t to sinks at t or, for predictions,
            # past t.
            d_e = tl.sum(k_f * d_write, 1)
            past = tl.sum(k_f * d_predict, 1)
            spanned = spanned - e * d_e - past
            d_e += at_once * tl.sum(q_f * k_f, 1)
            d_log_w = tl.cumsum(spanned, 0, reverse=True) + past + tl.sum(through, 0)    # <S', dS'>
            gate = (tokens + pixel) * heads + head
            tl.store(d_log_decay + gate, d_log_w.to(d_log_decay.dtype.element_ty), exists)
            tl.store(d_step_size + gate, d_e.to(d_step_size.dtype.element_ty), exists)
