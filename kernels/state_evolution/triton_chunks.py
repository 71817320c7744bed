"""What a chunk of 16 tokens takes apart from the state that enters it, found for all chunks at once."""
import triton
import triton.language as tl

from .triton_math import (CHUNK, chunk_gates, chunk_inverse, chunk_total, erase_ratios, load_tokens, pixels_of,
                          read_ratios, scan_of, split)


@triton.jit(do_not_specialize=['length', 'height', 'width', 'directions', 'batch', 'heads', 'streams', 'first', 'count',
                               'w_d', 'w_b', 'e_d', 'e_b'])
def prepare(q, k, log_decay, step_size, tiles, ratios,
            q_b, q_t, q_h, k_b, k_t, k_h, w_d, w_b, w_t, w_h, e_d, e_b, e_t, e_h,
            length, height, width, directions, batch, heads, streams, first, count,
            DK: tl.constexpr, BK: tl.constexpr, DOT: tl.constexpr, PARTS: tl.constexpr, READ_PARTS: tl.constexpr,
            NARROW: tl.constexpr, FAR: tl.constexpr, STAGES: tl.constexpr, GROUP: tl.constexpr):
    """Program (stream, GROUP of the `count` chunks from `first` on).

    tiles (count, streams, PARTS + READ_PARTS, CHUNK, CHUNK): X = (I + A)^-1 and M in parts, as from `split`; ratios
    (count, streams, 4, CHUNK): r_t0, r_{t-1,0}, e_t r_Ct, and r_C0 in all places.
    """
    stream = tl.program_id(0)
    scan, sample, head, reverse, line, stride = scan_of(stream, directions, length, height, width, batch, heads)
    stream, sample, scan = stream.to(tl.int64), sample.to(tl.int64), scan.to(tl.int64)
    q += sample * q_b + head * q_h
    k += sample * k_b + head * k_h
    log_decay += scan * w_d + sample * w_b + head * w_h
    step_size += scan * e_d + sample * e_b + head * e_h
    token_number = tl.arange(0, CHUNK)
    place = token_number[:, None] * CHUNK + token_number[None, :]
    for n in tl.range(tl.program_id(1) * GROUP, tl.minimum((tl.program_id(1) + 1) * GROUP, count), num_stages=STAGES):
        token, pixel = pixels_of(first + n, reverse, line, stride, length, NARROW, FAR)
        exists = token < length
        log_w, g, e = chunk_gates(log_decay, step_size, pixel, exists, w_t, e_t)
        q_c = load_tokens(q, pixel, exists, q_t, 0, DK, BK, DOT)
        k_c = load_tokens(k, pixel, exists, k_t, 0, DK, BK, DOT)
        erase, erase_t = erase_ratios(log_w, g)
        x = chunk_inverse(k_c, e, erase, erase_t)
        m = tl.dot(q_c, tl.trans(k_c), input_precision='tf32x3') * read_ratios(erase, log_w) * e[None, :]

        number = n * streams + stream
        tile = tiles + number * ((PARTS + READ_PARTS) * CHUNK * CHUNK) + place
        store_parts(tile, x, DOT, PARTS)
        store_parts(tile + PARTS * CHUNK * CHUNK, m, DOT, READ_PARTS)
        ratio = ratios + number * (4 * CHUNK) + token_number
        total = chunk_total(g, token, length)
        tl.store(ratio, tl.exp2(g))
        tl.store(ratio + CHUNK, tl.exp2(g - log_w))
        tl.store(ratio + 2 * CHUNK, e * tl.exp2(total - g))
        tl.store(ratio + 3 * CHUNK, tl.exp2(total + tl.zeros_like(g)))


@triton.jit
def probe(x):
    """Compiled, not run: what is missing here, or gone from a Triton to come, shows before the first call does."""
    token = tl.arange(0, CHUNK)
    for _ in tl.range(1, num_stages=2, disable_licm=True):
        log_w, g, e = chunk_gates(x, x, token, token < CHUNK, 1, 1)
        erase, erase_t = erase_ratios(log_w, g)
        tl.store(x + token[:, None] * CHUNK + token[None, :], chunk_inverse(erase, e, erase, erase_t))


@triton.jit
def store_parts(tile, x, DOT: tl.constexpr, PARTS: tl.constexpr):
    x0, x1, x2 = split(x, DOT, PARTS)
    tl.store(tile, x0)
    if PARTS > 1:
        tl.store(tile + CHUNK * CHUNK, x1)
    if PARTS > 2:
        tl.store(tile + 2 * CHUNK * CHUNK, x2)


@triton.jit
def load_parts(tile, PARTS: tl.constexpr):
    """What store_parts has stored at `tile`, and as many more to make three."""
    token = tl.arange(0, CHUNK)
    tile += token[:, None] * CHUNK + token[None, :]
    x0 = tl.load(tile)
    x1, x2 = x0, x0
    if PARTS > 1:
        x1 = tl.load(tile + CHUNK * CHUNK)
    if PARTS > 2:
        x2 = tl.load(tile + 2 * CHUNK * CHUNK)
    return x0, x1, x2


@triton.jit
def load_ratios(ratio, ROWS: tl.constexpr):
    """r_t0, r_{t-1,0} and e_t r_Ct (CHUNK,), and r_C0 (ROWS,), in all places."""
    token = tl.arange(0, CHUNK)
    return (tl.load(ratio + token), tl.load(ratio + CHUNK + token), tl.load(ratio + 2 * CHUNK + token),
            tl.load(ratio + 3 * CHUNK + tl.arange(0, ROWS) % CHUNK))
