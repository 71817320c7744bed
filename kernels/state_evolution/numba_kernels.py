"""State evolution token by token, forward and backward, compiled by numba for one pair of widths.

A state stays in the cache, transposed: T = S^T (Dk, Dv), so that its rows T_i are vectors, and no walk sums across one.

    error = v_t - sum_i k_i T_i      T_i <- w T_i + e k_i error      o_t = sum_i q_i T_i

One pass over the rows writes token t, reads it, and predicts token t + 1. With G the gradient of T, back from token t:

    G_i <- G_i + q_i dO      d_queryi = dO . T_i        p = sum_i k_i G_i     de = error . p     dv = e p
    d_keyi = e error . G_i - dv . T'_i                dw = sum_i G_i . T'_i                    G_i <- w G_i - k_i dv

where T' is T before the token. The backward pass walks anew from the states that were kept, one every few tokens.

Rows are LLVM's own vectors, which it maps to the widest registers at hand. Numba alone keeps an accumulator that is
part of an array in memory, for it cannot know that no other array overlaps it. All of this is one file because the
cache on disk does not see changes in others.
"""
import math
from functools import cache

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, models, register_model

# Tokens between asking for one and using it: an image's column takes every token from another page.
AHEAD = 8
LLVM_TYPES = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}
BYTE, INT32 = ir.IntType(8), ir.IntType(32)
# A multiplication and the addition after it may round once.
CONTRACT = ('contract',)


class Vector(types.Type):
    """`size` floats of one type."""

    def __init__(self, dtype, size):
        self.dtype, self.size = dtype, size
        super().__init__(f'Vector({dtype}, {size})')


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        super().__init__(manager, vector, ir.VectorType(LLVM_TYPES[vector.dtype], vector.size))


def pointer(context, builder, array_type, array, index, vector_type):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), context.get_value_type(vector_type).as_pointer())


def spread(context, builder, scalar, vector_type):
    llvm_type = context.get_value_type(vector_type)
    first = builder.insert_element(ir.Constant(llvm_type, ir.Undefined), scalar, INT32(0))
    lanes = ir.Constant(ir.VectorType(INT32, vector_type.size), [0] * vector_type.size)
    return builder.shuffle_vector(first, ir.Constant(llvm_type, ir.Undefined), lanes)


@intrinsic(prefer_literal=True)
def zeros(typing_context, array, size):
    """A vector of `size` (a constant) zeros of the array's type."""
    vector = Vector(array.dtype, size.literal_value)

    def generate(context, builder, signature, args):
        return ir.Constant(context.get_value_type(vector), None)

    return vector(array, size), generate


@intrinsic
def size(typing_context, vector):
    """Of a vector, a constant."""
    def generate(context, builder, signature, args):
        return context.get_constant(types.intp, vector.size)

    return types.intp(vector), generate


@intrinsic
def take(typing_context, array, index):
    """array[index] of a contiguous 1-D array, without the care for negative indices that array[index] takes."""
    def generate(context, builder, signature, args):
        data = context.make_array(array)(context, builder, args[0]).data
        return builder.load(builder.gep(data, [args[1]]))

    return array.dtype(array, types.intp), generate


@intrinsic
def put(typing_context, array, index, number):
    """array[index] = number, as `take`."""
    def generate(context, builder, signature, args):
        data = context.make_array(array)(context, builder, args[0]).data
        builder.store(args[2], builder.gep(data, [args[1]]))
        return context.get_dummy_value()

    return types.none(array, types.intp, array.dtype), generate


@intrinsic
def load(typing_context, array, index, like):
    """A vector of `like`'s size out of a contiguous 1-D array, from array[index] on."""
    def generate(context, builder, signature, args):
        source = pointer(context, builder, array, args[0], args[1], like)
        return builder.load(source, align=array.dtype.bitwidth // 8)

    return like(array, types.intp, like), generate


@intrinsic
def prefetch_line(typing_context, array, index):
    """Asks for the cache line of array[index], of a contiguous 1-D array."""
    def generate(context, builder, signature, args):
        data = context.make_array(array)(context, builder, args[0]).data
        place = builder.bitcast(builder.gep(data, [args[1]]), BYTE.as_pointer())
        function = builder.module.declare_intrinsic(
            'llvm.prefetch', [place.type], ir.FunctionType(ir.VoidType(), [place.type, INT32, INT32, INT32]))
        # To read, into the nearest cache, data.
        builder.call(function, [place, INT32(0), INT32(3), INT32(1)])
        return context.get_dummy_value()

    return types.none(array, types.intp), generate


@intrinsic
def store(typing_context, array, index, vector):
    """array[index:index + vector.size] = vector, for a contiguous 1-D array."""
    def generate(context, builder, signature, args):
        target = pointer(context, builder, array, args[0], args[1], vector)
        builder.store(args[2], target, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(array, types.intp, vector), generate


@intrinsic
def plus(typing_context, a, b):
    """a + b."""
    def generate(context, builder, signature, args):
        return builder.fadd(*args)

    return a(a, a), generate


@intrinsic
def minus(typing_context, a, b):
    """a - b."""
    def generate(context, builder, signature, args):
        return builder.fsub(*args)

    return a(a, a), generate


@intrinsic
def times(typing_context, a, x):
    """a x, with a number or a vector a."""
    def generate(context, builder, signature, args):
        factor = args[0] if isinstance(a, Vector) else spread(context, builder, args[0], x)
        return builder.fmul(factor, args[1], flags=CONTRACT)

    return x(x if isinstance(a, Vector) else x.dtype, x), generate


@intrinsic
def plus_times(typing_context, y, a, x):
    """y + a x, with a number or a vector a."""
    def generate(context, builder, signature, args):
        factor = args[1] if isinstance(a, Vector) else spread(context, builder, args[1], x)
        return builder.fadd(args[0], builder.fmul(factor, args[2], flags=CONTRACT), flags=CONTRACT)

    return x(x, x if isinstance(a, Vector) else x.dtype, x), generate


@intrinsic
def total(typing_context, x):
    """The sum of a vector's elements, in an order of LLVM's choice."""
    def generate(context, builder, signature, args):
        scalar = LLVM_TYPES[x.dtype]
        vector = context.get_value_type(x)
        name = f'llvm.vector.reduce.fadd.v{x.size}f{x.dtype.bitwidth}'
        function = builder.module.globals.get(name)
        if function is None:
            function = ir.Function(builder.module, ir.FunctionType(scalar, (scalar, vector)), name)
        return builder.call(function, (ir.Constant(scalar, -0.), args[0]), fastmath=('reassoc',))

    return x.dtype(x), generate


def compiled(function):
    """numba's njit, cached on disk where that can be written."""
    options = {'nogil': True, 'error_model': 'numpy'}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:    # no folder for the cache
        return njit(**options)(function)


@compiled
def pixel(direction, t, height, width):
    """The pixel, counted row by row, that a scan visits as its t-th; directions as DIRECTIONS counts them."""
    if direction % 2:
        t = height * width - 1 - t
    return t % height * width + t // height if direction >= 2 else t


@compiled
def prefetch_lines(array, at, dim):
    """Asks for array[at:at + dim]."""
    for i in range(0, dim, 64 // array.itemsize):
        prefetch_line(array, at + i)


@compiled
def prefetch(q, query, q_dim, k, key, v, value, v_dim):
    """Asks for a token."""
    prefetch_lines(q, query, q_dim)
    prefetch_lines(k, key, q_dim)
    prefetch_lines(v, value, v_dim)


@compiled
def add(array, at, vector, more):
    """Adds to what is there, or, if there is no more, replaces it."""
    store(array, at, plus(vector, load(array, at, vector)) if more else vector)


@compiled
def combine(x, at, s, now, rows, zero):
    """sum_i x_i T_i"""
    out = zero
    for i in range(rows):
        out = plus_times(out, take(x, at + i), load(s, now + i * size(zero), zero))
    return out


@compiled
def advance_row(i, out, predicted, s, now, then, w, write, q, query, k, key, following):
    """Row i of `advance`; -> the sums with that row."""
    row = plus_times(times(take(k, key + i), write), w, load(s, now + i * size(write), write))
    store(s, then + i * size(write), row)
    return plus_times(out, take(q, query + i), row), plus_times(predicted, take(k, following + i), row)


@compiled
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


@compiled
def read_back_row(i, projected, d_s, d_out, q, query, k, key, s, after, d_query):
    """Row i of G <- G + q dO and of dq; -> p with that row."""
    d_row = plus_times(load(d_s, i * size(d_out), d_out), take(q, query + i), d_out)
    store(d_s, i * size(d_out), d_row)
    put(d_query, i, total(times(d_out, load(s, after + i * size(d_out), d_out))))
    return plus_times(projected, take(k, key + i), d_row)


@compiled
def write_back_row(i, d_w, d_s, s, before, w, write, d_value, k, key, d_key):
    """Row i of G <- w G - k dv and of dk; -> dw with that row, not yet summed over channels."""
    row, d_row = load(s, before + i * size(write), write), load(d_s, i * size(write), write)
    put(d_key, i, total(minus(times(write, d_row), times(d_value, row))))
    store(d_s, i * size(write), minus(times(w, d_row), times(take(k, key + i), d_value)))
    return plus_times(d_w, row, d_row)


@cache
def kernels(q_dim, v_dim):
    """The two passes for these widths.

    All arrays are 1-D and of one float type. strides (6, 4) are those of q, k, v, log_decay, step_size and d_o along D,
    B, L, H; the other arrays are contiguous. A task is one head of one sample in one of `groups` groups of scans;
    groups have an output each, o, d_q, d_k and d_v being (groups, B, L, H, dim). A call does tasks start .. stop - 1.
    """
    area = q_dim * v_dim

    @compiled
    def forward(q, k, v, log_decay, step_size, strides, state, states, o, sizes, scans, start, stop):
        """state (D, B, H, Dk, Dv): the first, replaced by the last; states (chunks, D, B, H, Dk, Dv), or empty."""
        batch, length, heads, height, width, groups, chunk = sizes
        streams = len(scans) * batch * heads
        s = np.empty(area, q.dtype)
        zero = zeros(s, v_dim)
        for task in range(start, stop):
            head, sample, group = task % heads, task // heads % batch, task // heads // batch
            origin = strides[:, 1] * sample + strides[:, 3] * head
            for scan in range(group, len(scans), groups):
                begin = origin + strides[:, 0] * scan
                stream = (scan * batch + sample) * heads + head
                s[:] = state[stream * area:(stream + 1) * area]
                p = pixel(scans[scan], 0, height, width)
                predicted = combine(k, begin[1] + p * strides[1, 2], s, 0, q_dim, zero)
                for t in range(length):
                    if len(states) and t % chunk == 0:
                        kept = (t // chunk * streams + stream) * area
                        states[kept:kept + area] = s
                    ahead = pixel(scans[scan], min(t + AHEAD, length - 1), height, width)
                    prefetch(q, begin[0] + ahead * strides[0, 2], q_dim, k, begin[1] + ahead * strides[1, 2],
                             v, begin[2] + ahead * strides[2, 2], v_dim)
                    following = pixel(scans[scan], min(t + 1, length - 1), height, width)
                    error = minus(load(v, begin[2] + p * strides[2, 2], zero), predicted)
                    write = times(step_size[begin[4] + p * strides[4, 2]], error)
                    w = math.exp(log_decay[begin[3] + p * strides[3, 2]])
                    out, predicted = advance(s, 0, 0, q_dim, w, write, q, begin[0] + p * strides[0, 2],
                                             k, begin[1] + p * strides[1, 2], begin[1] + following * strides[1, 2])
                    target = (((group * batch + sample) * length + p) * heads + head) * v_dim
                    add(o, target, out, scan > group)
                    p = following
                state[stream * area:(stream + 1) * area] = s

    @compiled
    def backward(q, k, v, log_decay, step_size, d_o, strides, d_state, states, d_q, d_k, d_v, d_log_decay, d_step_size,
                 sizes, scans, start, stop):
        """d_state (D, B, H, Dk, Dv): the gradient of the last states, replaced by that of the first."""
        batch, length, heads, height, width, groups, chunk = sizes
        streams = len(scans) * batch * heads
        s = np.empty((min(chunk, length) + 1) * area, q.dtype)
        errors = np.empty(min(chunk, length) * v_dim, q.dtype)
        d_s = np.empty(area, q.dtype)
        d_query, d_key = np.empty(q_dim, q.dtype), np.empty(q_dim, q.dtype)
        zero = zeros(s, v_dim)
        for task in range(start, stop):
            head, sample, group = task % heads, task // heads % batch, task // heads // batch
            origin = strides[:, 1] * sample + strides[:, 3] * head
            for scan in range(group, len(scans), groups):
                begin = origin + strides[:, 0] * scan
                stream = (scan * batch + sample) * heads + head
                d_s[:] = d_state[stream * area:(stream + 1) * area]
                for first in range((length - 1) // chunk * chunk, -1, -chunk):
                    kept = (first // chunk * streams + stream) * area
                    s[:area] = states[kept:kept + area]
                    tokens = min(chunk, length - first)
                    p = pixel(scans[scan], first, height, width)
                    predicted = combine(k, begin[1] + p * strides[1, 2], s, 0, q_dim, zero)
                    for t in range(tokens):
                        ahead = pixel(scans[scan], min(first + t + AHEAD, length - 1), height, width)
                        prefetch(q, begin[0] + ahead * strides[0, 2], q_dim, k, begin[1] + ahead * strides[1, 2],
                                 v, begin[2] + ahead * strides[2, 2], v_dim)
                        prefetch_lines(d_o, begin[5] + ahead * strides[5, 2], v_dim)
                        following = pixel(scans[scan], min(first + t + 1, length - 1), height, width)
                        error = minus(load(v, begin[2] + p * strides[2, 2], zero), predicted)
                        store(errors, t * v_dim, error)
                        write = times(step_size[begin[4] + p * strides[4, 2]], error)
                        w = math.exp(log_decay[begin[3] + p * strides[3, 2]])
                        _, predicted = advance(
                            s, t * area, (t + 1) * area, q_dim, w, write, q, begin[0] + p * strides[0, 2],
                            k, begin[1] + p * strides[1, 2], begin[1] + following * strides[1, 2])
                        p = following

                    for t in range(tokens - 1, -1, -1):
                        p = pixel(scans[scan], first + t, height, width)
                        query, key = begin[0] + p * strides[0, 2], begin[1] + p * strides[1, 2]
                        before, after = t * area, (t + 1) * area
                        token = ((group * batch + sample) * length + p) * heads + head
                        gate = ((scan * batch + sample) * length + p) * heads + head
                        e = step_size[begin[4] + p * strides[4, 2]]
                        w = math.exp(log_decay[begin[3] + p * strides[3, 2]])
                        error = load(errors, t * v_dim, zero)
                        d_out = load(d_o, begin[5] + p * strides[5, 2], zero)
                        projected, odd = zero, zero
                        for i in range(0, q_dim - 1, 2):
                            projected = read_back_row(i, projected, d_s, d_out, q, query, k, key, s, after, d_query)
                            odd = read_back_row(i + 1, odd, d_s, d_out, q, query, k, key, s, after, d_query)
                        if q_dim % 2:
                            projected = read_back_row(q_dim - 1, projected, d_s, d_out, q, query, k, key, s, after,
                                                      d_query)
                        projected = plus(projected, odd)
                        d_value = times(e, projected)
                        d_step_size[gate] = total(times(error, projected))
                        add(d_v, token * v_dim, d_value, scan > group)
                        write = times(e, error)
                        d_w, odd = zero, zero
                        for i in range(0, q_dim - 1, 2):
                            d_w = write_back_row(i, d_w, d_s, s, before, w, write, d_value, k, key, d_key)
                            odd = write_back_row(i + 1, odd, d_s, s, before, w, write, d_value, k, key, d_key)
                        if q_dim % 2:
                            d_w = write_back_row(q_dim - 1, d_w, d_s, s, before, w, write, d_value, k, key, d_key)
                        d_w = plus(d_w, odd)
                        d_log_decay[gate] = w * total(d_w)
                        add(d_q, token * q_dim, load(d_query, 0, zeros(s, q_dim)), scan > group)
                        add(d_k, token * q_dim, load(d_key, 0, zeros(s, q_dim)), scan > group)
                d_state[stream * area:(stream + 1) * area] = d_s

    return forward, backward
