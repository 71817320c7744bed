"""State evolution token by token, forward and backward, compiled by numba for one pair of widths.

A state stays in the cache, transposed: T = S^T (Dk, Dv), so that its rows T_i are vectors, and no walk sums across one.

    error = v_t - sum_i k_i T_i      T_i <- w T_i + e k_i error      o_t = sum_i q_i T_i

One pass over the rows writes token t, reads it, and predicts token t + 1. With G the gradient of T, back from token t:

    G_i <- G_i + q_i dO      d_queryi = dO . T_i        p = sum_i k_i G_i     de = error . p     dv = e p
    d_keyi = e error . G_i - dv . T'_i                dw = sum_i G_i . T'_i                    G_i <- w G_i - k_i dv

where T' is T before the token. The backward pass walks anew from the states that were kept, one every few tokens.
"""
import zlib
from functools import cache
from pathlib import Path

from numba import njit

from . import numba_vectors
from .numba_vectors import (
    load, memory, minus, plus, plus_times, prefetch, put, size, store, take, times, total, zeros)

# The cache on disk sees changes in this file and in what the compiled functions close over, not in other files.
VECTORS = zlib.crc32(Path(numba_vectors.__file__).read_bytes())
# Tokens between asking for one and using it: an image's column takes every token from another page. What later scans
# add to is asked for too; without it 128x128 tokens took a third longer.
AHEAD = 8


def compiled(function):
    """numba's njit, cached on disk where that can be written."""
    options = {'nogil': True, 'error_model': 'numpy'}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:    # no folder for the cache
        return njit(**options)(function)


def inlined(function):
    """As compiled, into every function that calls it: a call would pass vectors through memory."""
    return njit(forceinline=True, nogil=True, error_model='numpy')(function)


@inlined
def pixel(direction, t, height, width):
    """The pixel, counted row by row, that a scan visits as its t-th; directions as DIRECTIONS counts them."""
    if direction % 2:
        t = height * width - 1 - t
    return t % height * width + t // height if direction >= 2 else t


@inlined
def add(memory, at, vector, more):
    """Adds to what is there, or, if there is no more, replaces it."""
    store(memory, at, plus(vector, load(memory, at, vector)) if more else vector)


@inlined
def combine(x, at, s, now, rows, zero):
    """sum_i x_i T_i"""
    out = zero
    for i in range(rows):
        out = plus_times(out, take(x, at + i), load(s, now + i * size(zero), zero))
    return out


@inlined
def advance_row(i, out, predicted, s, now, then, w, write, q, query, k, key, following):
    """Row i of `advance`; -> the sums with that row."""
    row = plus_times(times(take(k, key + i), write), w, load(s, now + i * size(write), write))
    store(s, then + i * size(write), row)
    return plus_times(out, take(q, query + i), row), plus_times(predicted, take(k, following + i), row)


@inlined
def advance(s, now, then, rows, w, write, q, query, k, key, following):
    """Writes a token into the state at s[now] and puts it at s[then].

    Returns:
        What q reads of it; what the key that follows predicts from it.
    """
    zero = minus(write, write)
    # Here and below odd rows have sums of their own: a single one would wait for itself.
    out, predicted, odd_out, odd_predicted = zero, zero, zero, zero
    for i in range(0, rows - 1, 2):
        out, predicted = advance_row(i, out, predicted, s, now, then, w, write, q, query, k, key, following)
        odd_out, odd_predicted = advance_row(i + 1, odd_out, odd_predicted, s, now, then, w, write, q, query, k, key,
                                             following)
    if rows % 2:
        out, predicted = advance_row(rows - 1, out, predicted, s, now, then, w, write, q, query, k, key, following)
    return plus(out, odd_out), plus(predicted, odd_predicted)


@inlined
def read_back_row(i, projected, s, d_s, after, d_out, q, query, k, key, d_query):
    """Row i of G <- G + q dO, at s[d_s], and of dq; -> p with that row."""
    d_row = plus_times(load(s, d_s + i * size(d_out), d_out), take(q, query + i), d_out)
    store(s, d_s + i * size(d_out), d_row)
    put(s, d_query + i, total(times(d_out, load(s, after + i * size(d_out), d_out))))
    return plus_times(projected, take(k, key + i), d_row)


@inlined
def write_back_row(i, d_w, s, d_s, before, w, write, d_value, k, key, d_key):
    """Row i of G <- w G - k dv and of dk; -> dw with that row, not yet summed over channels."""
    row, d_row = load(s, before + i * size(write), write), load(s, d_s + i * size(write), write)
    put(s, d_key + i, total(minus(times(write, d_row), times(d_value, row))))
    store(s, d_s + i * size(write), minus(times(w, d_row), times(take(k, key + i), d_value)))
    return plus_times(d_w, row, d_row)


@inlined
def origins(strides, scan, sample, head):
    """Where the first tokens of q, k, v, decay, step_size and d_o are."""
    at = strides[:, 0] * scan + strides[:, 1] * sample + strides[:, 3] * head
    return at[0], at[1], at[2], at[3], at[4], at[5]


@inlined
def copy(target, to, source, start, count):
    """target[to:to + count] = source[start:start + count]"""
    for i in range(count):
        put(target, to + i, take(source, start + i))


@cache
def kernels(q_dim, v_dim):
    """The two passes for these widths, and how many numbers of scratch memory each needs for chunks of a given length.

    All arrays are 1-D and of one float type. decay is exp(log_decay). strides (6, 4) are those of q, k, v, decay,
    step_size and d_o along D, B, L, H; the other arrays are contiguous. A task is one head of one sample in one of
    `groups` groups of scans; groups have an output each, o, d_q, d_k and d_v being (groups, B, L, H, dim). A call does
    tasks start .. stop - 1; calls at one time share all arrays but `scratch`.
    """
    area, vectors = q_dim * v_dim, VECTORS

    def forward_scratch(chunk):
        return area

    def backward_scratch(chunk):
        return (chunk + 2) * area + chunk * v_dim + 2 * q_dim

    @compiled
    def forward(q, k, v, decay, step_size, strides, state, states, o, sizes, scans, scratch, start, stop):
        """state (D, B, H, Dk, Dv): the first, replaced by the last; states (chunks, D, B, H, Dk, Dv), or empty."""
        assert vectors == VECTORS
        batch, length, heads, height, width, groups, chunk = sizes
        streams = len(scans) * batch * heads
        keep = len(states) > 0
        q_at, k_at, v_at, decay_at, step_at = memory(q), memory(k), memory(v), memory(decay), memory(step_size)
        state_at, states_at, o_at, s = memory(state), memory(states), memory(o), memory(scratch)
        zero, q_zero = zeros(s, v_dim), zeros(s, q_dim)
        for task in range(start, stop):
            head, sample, group = task % heads, task // heads % batch, task // heads // batch
            for scan in range(group, len(scans), groups):
                q_0, k_0, v_0, decay_0, step_0, _ = origins(strides, scan, sample, head)
                stream = (scan * batch + sample) * heads + head
                first_token = (group * batch + sample) * length * heads + head
                copy(s, 0, state_at, stream * area, area)
                p = pixel(scans[scan], 0, height, width)
                predicted = combine(k_at, k_0 + p * strides[1, 2], s, 0, q_dim, zero)
                for t in range(length):
                    if keep and t % chunk == 0:
                        copy(states_at, (t // chunk * streams + stream) * area, s, 0, area)
                    ahead = pixel(scans[scan], min(t + AHEAD, length - 1), height, width)
                    prefetch(q_at, q_0 + ahead * strides[0, 2], q_zero)
                    prefetch(k_at, k_0 + ahead * strides[1, 2], q_zero)
                    prefetch(v_at, v_0 + ahead * strides[2, 2], zero)
                    if scan > group:
                        prefetch(o_at, (first_token + ahead * heads) * v_dim, zero)
                    following = pixel(scans[scan], min(t + 1, length - 1), height, width)
                    error = minus(load(v_at, v_0 + p * strides[2, 2], zero), predicted)
                    write = times(take(step_at, step_0 + p * strides[4, 2]), error)
                    out, predicted = advance(s, 0, 0, q_dim, take(decay_at, decay_0 + p * strides[3, 2]), write,
                                             q_at, q_0 + p * strides[0, 2], k_at, k_0 + p * strides[1, 2],
                                             k_0 + following * strides[1, 2])
                    add(o_at, (first_token + p * heads) * v_dim, out, scan > group)
                    p = following
                copy(state_at, stream * area, s, 0, area)

    @compiled
    def backward(q, k, v, decay, step_size, d_o, strides, d_state, states, d_q, d_k, d_v, d_log_decay, d_step_size,
                 sizes, scans, scratch, start, stop):
        """d_state (D, B, H, Dk, Dv): the gradient of the last states, replaced by that of the first."""
        assert vectors == VECTORS
        batch, length, heads, height, width, groups, chunk = sizes
        streams = len(scans) * batch * heads
        q_at, k_at, v_at, decay_at, step_at = memory(q), memory(k), memory(v), memory(decay), memory(step_size)
        d_o_at, d_state_at, states_at, d_q_at = memory(d_o), memory(d_state), memory(states), memory(d_q)
        d_k_at, d_v_at, d_decay_at, d_step_at = memory(d_k), memory(d_v), memory(d_log_decay), memory(d_step_size)
        s = memory(scratch)
        zero, q_zero = zeros(s, v_dim), zeros(s, q_dim)
        # States before and after every token of a chunk; the gradient of one; errors; a query's and a key's gradient.
        d_s = (chunk + 1) * area
        errors = d_s + area
        d_query = errors + chunk * v_dim
        d_key = d_query + q_dim
        for task in range(start, stop):
            head, sample, group = task % heads, task // heads % batch, task // heads // batch
            for scan in range(group, len(scans), groups):
                q_0, k_0, v_0, decay_0, step_0, d_o_0 = origins(strides, scan, sample, head)
                stream = (scan * batch + sample) * heads + head
                first_token = (group * batch + sample) * length * heads + head
                copy(s, d_s, d_state_at, stream * area, area)
                for first in range((length - 1) // chunk * chunk, -1, -chunk):
                    copy(s, 0, states_at, (first // chunk * streams + stream) * area, area)
                    tokens = min(chunk, length - first)
                    p = pixel(scans[scan], first, height, width)
                    predicted = combine(k_at, k_0 + p * strides[1, 2], s, 0, q_dim, zero)
                    for t in range(tokens):
                        ahead = pixel(scans[scan], min(first + t + AHEAD, length - 1), height, width)
                        prefetch(q_at, q_0 + ahead * strides[0, 2], q_zero)
                        prefetch(k_at, k_0 + ahead * strides[1, 2], q_zero)
                        prefetch(v_at, v_0 + ahead * strides[2, 2], zero)
                        prefetch(d_o_at, d_o_0 + ahead * strides[5, 2], zero)
                        following = pixel(scans[scan], min(first + t + 1, length - 1), height, width)
                        error = minus(load(v_at, v_0 + p * strides[2, 2], zero), predicted)
                        store(s, errors + t * v_dim, error)
                        write = times(take(step_at, step_0 + p * strides[4, 2]), error)
                        _, predicted = advance(s, t * area, (t + 1) * area, q_dim,
                                               take(decay_at, decay_0 + p * strides[3, 2]), write,
                                               q_at, q_0 + p * strides[0, 2], k_at, k_0 + p * strides[1, 2],
                                               k_0 + following * strides[1, 2])
                        p = following

                    for t in range(tokens - 1, -1, -1):
                        p = pixel(scans[scan], first + t, height, width)
                        query, key = q_0 + p * strides[0, 2], k_0 + p * strides[1, 2]
                        before, after = t * area, (t + 1) * area
                        token = first_token + p * heads
                        if scan > group:
                            ahead = pixel(scans[scan], max(first + t - AHEAD, 0), height, width)
                            ahead = first_token + ahead * heads
                            prefetch(d_q_at, ahead * q_dim, q_zero)
                            prefetch(d_k_at, ahead * q_dim, q_zero)
                            prefetch(d_v_at, ahead * v_dim, zero)
                        gate = ((scan * batch + sample) * length + p) * heads + head
                        e = take(step_at, step_0 + p * strides[4, 2])
                        w = take(decay_at, decay_0 + p * strides[3, 2])
                        error = load(s, errors + t * v_dim, zero)
                        d_out = load(d_o_at, d_o_0 + p * strides[5, 2], zero)
                        projected, odd = zero, zero
                        for i in range(0, q_dim - 1, 2):
                            projected = read_back_row(i, projected, s, d_s, after, d_out, q_at, query, k_at, key,
                                                      d_query)
                            odd = read_back_row(i + 1, odd, s, d_s, after, d_out, q_at, query, k_at, key, d_query)
                        if q_dim % 2:
                            projected = read_back_row(q_dim - 1, projected, s, d_s, after, d_out, q_at, query, k_at,
                                                      key, d_query)
                        projected = plus(projected, odd)
                        d_value = times(e, projected)
                        put(d_step_at, gate, total(times(error, projected)))
                        add(d_v_at, token * v_dim, d_value, scan > group)
                        write = times(e, error)
                        d_w, odd = zero, zero
                        for i in range(0, q_dim - 1, 2):
                            d_w = write_back_row(i, d_w, s, d_s, before, w, write, d_value, k_at, key, d_key)
                            odd = write_back_row(i + 1, odd, s, d_s, before, w, write, d_value, k_at, key, d_key)
                        if q_dim % 2:
                            d_w = write_back_row(q_dim - 1, d_w, s, d_s, before, w, write, d_value, k_at, key, d_key)
                        put(d_decay_at, gate, w * total(plus(d_w, odd)))
                        add(d_q_at, token * q_dim, load(s, d_query, q_zero), scan > group)
                        add(d_k_at, token * q_dim, load(s, d_key, q_zero), scan > group)
                copy(d_state_at, stream * area, s, d_s, area)

    return (forward, forward_scratch), (backward, backward_scratch)
