"""What the Triton kernels of state evolution share: where a scan's tokens lie, float32 products, a chunk's matrices.

The mathematics and its names are those of chunked_body.py, with the states, errors and outputs transposed: rows are
channels of v, columns are tokens or channels of k. What a tensor core leaves in registers then is, as it lies there, an
operand of the next product along the chain S -> R^T -> U^T -> S', R^T = V^T - S K^T diag(r_{t-1,0}), U^T = R^T X^T.

Tensor cores take 16-bit operands. Inputs in 16 bit are used as they are; all else is float32 and enters as a sum of
PARTS 16-bit numbers (two of float16 or three of bfloat16 carry its 24 bits), products too small to matter left out.
float32 inputs are split likewise, by the compiler (tf32x3). float16 brings its range along: what exceeds 65504 in
a state or a gradient becomes infinite or NaN. The second of two is kept times LIFT, or what is below 0.1 would carry
fewer bits; so only what is below 1e-4 does, and what is below 1e-11 none.
"""
import triton
import triton.language as tl

from .dtypes import LEAST_LOG_DECAY

# Tokens per chunk, the least a tensor core takes.
CHUNK = tl.constexpr(16)
LOG2_E = tl.constexpr(1.4426950408889634)
LEAST = tl.constexpr(LEAST_LOG_DECAY)
LIFT = tl.constexpr(2048.)


@triton.jit
def scan_of(stream, directions, length, height, width, batch, heads):
    """Which scan, sample and head a stream is, and its map from tokens to pixels.

    directions holds two bits per scan: 1 reverses, 2 goes down the columns. Token t of a scan along lines of n tokens
    is pixel (t % n) * stride + t // n, of a reversed scan the pixel opposite to that.
    """
    head = (stream % heads).to(tl.int64)
    sample = stream // heads % batch
    scan = stream // heads // batch
    code = directions >> (2 * scan)
    line = tl.where(code & 2 != 0, height, length)
    stride = tl.where(code & 2 != 0, width, 1)
    return scan, sample, head, code & 1, line, stride


@triton.jit
def pixels_of(chunk, reverse, line, stride, length, NARROW: tl.constexpr, FAR: tl.constexpr):
    """A chunk's tokens (CHUNK,) and their pixels.

    NARROW: lines may be shorter than a chunk; FAR: offsets of tokens may need 64 bits.
    """
    offset = tl.arange(0, CHUNK)
    token = chunk * CHUNK
    start = token % line
    if NARROW:
        wraps = (start + offset) // line
    else:
        wraps = (start + offset >= line).to(tl.int32)
    pixel = start * stride + token // line + offset * stride - wraps * (line * stride - 1)
    pixel = tl.where(reverse != 0, length - 1 - pixel, pixel)
    if FAR:
        pixel = pixel.to(tl.int64)
    return token + offset, pixel


@triton.jit
def load_tokens(base, pixel, exists, token_stride, first, WIDTH: tl.constexpr, BLOCK: tl.constexpr, DOT: tl.constexpr):
    """(CHUNK, BLOCK) channels from `first` on, zero where there is no token or channel."""
    channel = first + tl.arange(0, BLOCK)
    mask = exists[:, None]
    if WIDTH % BLOCK != 0:
        mask = mask & (channel < WIDTH)[None, :]
    return tl.load(base + pixel[:, None] * token_stride + channel[None, :], mask, other=0.).to(DOT)


@triton.jit
def load_transposed(base, pixel, exists, token_stride, first, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
                    DOT: tl.constexpr):
    """(BLOCK, CHUNK): as load_tokens, transposed. The compiler loads ahead what it need not transpose."""
    channel = first + tl.arange(0, BLOCK)
    mask = exists[None, :]
    if WIDTH % BLOCK != 0:
        mask = mask & (channel < WIDTH)[:, None]
    return tl.load(base + pixel[None, :] * token_stride + channel[:, None], mask, other=0.).to(DOT)


@triton.jit
def store_tokens(base, x_t, pixel, exists, token_stride, first, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """x_t (BLOCK, CHUNK), transposed, goes to the channels from `first` on."""
    channel = first + tl.arange(0, BLOCK)
    mask = exists[None, :]
    if WIDTH % BLOCK != 0:
        mask = mask & (channel < WIDTH)[:, None]
    places = base + pixel[None, :] * token_stride + channel[:, None]
    tl.store(places, x_t.to(base.dtype.element_ty), mask)


@triton.jit
def state_places(first, rows, COLUMNS: tl.constexpr, BV: tl.constexpr, BK: tl.constexpr):
    """Offsets (BV, BK) of rows from `first` on in a matrix (rows, COLUMNS), and which of these exist."""
    row = first + tl.arange(0, BV)[:, None]
    column = tl.arange(0, BK)[None, :]
    return row * COLUMNS + column, (row < rows) & (column < COLUMNS)


@triton.jit
def halves(x):
    """float32 -> two float16 numbers: x = first + second / LIFT."""
    first = x.to(tl.float16)
    return first, ((x - first.to(tl.float32)) * LIFT).to(tl.float16)


@triton.jit
def thirds(x, DOT: tl.constexpr):
    """float32 -> three 16-bit numbers that sum up to it."""
    # The bits that a 16-bit number holds; taking them is exact.
    mask: tl.constexpr = -1 << (13 if DOT == tl.float16 else 16)
    first = (x.to(tl.int32, bitcast=True) & mask).to(tl.float32, bitcast=True)
    rest = x - first
    second = (rest.to(tl.int32, bitcast=True) & mask).to(tl.float32, bitcast=True)
    return first.to(DOT), second.to(DOT), (rest - second).to(DOT)


@triton.jit
def split(x, DOT: tl.constexpr, PARTS: tl.constexpr):
    """float32 -> the PARTS operands that carry it, and as many more to make three."""
    if DOT == tl.float32:
        return x, x, x
    if PARTS == 2 and DOT == tl.float16:
        first, second = halves(x)
        return first, second, second
    return thirds(x, DOT)


@triton.jit
def dot_exact_right(x, b, PARTS: tl.constexpr):
    """x b for x in float32 and b an input.

    Tensor cores cut sums off where others round: a state that went through them as what they add to would shrink from
    chunk to chunk. It is added to the product instead.
    """
    if b.dtype == tl.float32:
        return tl.dot(x, b, input_precision='tf32x3')
    x0, x1, x2 = split(x, b.dtype, PARTS)
    if PARTS == 3:
        return tl.dot(x0, b, tl.dot(x1, b, tl.dot(x2, b)))
    return tl.dot(x0, b, tl.dot(x1, b) * (1 / LIFT if b.dtype == tl.float16 else 1.))


@triton.jit
def dot_exact_left(a, x0, x1, x2, acc, PARTS: tl.constexpr):
    """acc + a x for a an input and x as from `split`."""
    if a.dtype == tl.float32:
        return tl.dot(a, x0, acc, input_precision='tf32x3')
    if PARTS == 2:
        return tl.dot(a, x0, acc) + tl.dot(a, x1) * (1 / LIFT)
    return tl.dot(a, x0, tl.dot(a, x1, tl.dot(a, x2, acc)))


@triton.jit
def dot(x, y0, y1, y2, acc, DOT: tl.constexpr, PARTS: tl.constexpr):
    """acc + x y for x in float32 and y as from `split`."""
    if DOT == tl.float32:
        return tl.dot(x, y0, acc, input_precision='tf32x3')
    x0, x1, x2 = split(x, DOT, PARTS)
    if PARTS == 2 and DOT == tl.float16:
        return tl.dot(x0, y0, acc) + tl.dot(x0, y1, tl.dot(x1, y0)) * (1 / LIFT)
    if PARTS == 3:
        acc = tl.dot(x2, y0, tl.dot(x0, y2, tl.dot(x1, y1, acc)))
    return tl.dot(x0, y0, tl.dot(x0, y1, tl.dot(x1, y0, acc)))


@triton.jit
def merged(x, x_t, between_t):
    """X - X B X of block inverses X, from the transposed of X and of -B: used so, no value leaves its thread."""
    # Casts follow transposition: the compiler passes transposed 16-bit tensors through shared memory.
    b_x = tl.dot(x.to(tl.float16), tl.trans(between_t).to(tl.float16))
    return tl.dot(b_x.to(tl.float16), tl.trans(x_t).to(tl.float16), x)


@triton.jit
def refined(x, x_t, a_t):
    """X + (I - X (I + A)) X: the error of the float16 products, squared."""
    half = x.to(tl.float16)
    row, column = tl.arange(0, CHUNK)[:, None], tl.arange(0, CHUNK)[None, :]
    residual = tl.where(row == column, 1., 0.) - half.to(tl.float32)
    a0, a1, a2 = split(tl.trans(-a_t), tl.float16, 2)
    residual = dot_exact_left(half, a0, a1, a2, residual, 2) * LIFT
    return tl.dot(residual.to(tl.float16), tl.trans(x_t).to(tl.float16)) * (1 / LIFT) + half.to(tl.float32)


@triton.jit
def unit_inverse(a, a_t):
    """X = (I + A)^-1 for A (CHUNK, CHUNK), strictly lower: inverses of diagonal blocks, merged pair by pair.

    With |k| <= 1 every entry of X is at most 1, and so are the blocks on the way; powers of A can be beyond all bounds.
    X is found in float16, then refined.
    """
    row, column = tl.arange(0, CHUNK)[:, None], tl.arange(0, CHUNK)[None, :]
    identity = tl.where(row == column, 1., 0.)
    x = tl.where(row // 2 == column // 2, identity - a, 0.)
    x_t = tl.where(row // 2 == column // 2, identity - a_t, 0.)
    for level in tl.static_range(1, 4):
        # Blocks of 2 ** level: A between the halves of a pair.
        between = ((row ^ column) >> level) == 1
        x_next = merged(x, x_t, tl.where(between, -a_t, 0.))
        x_t = merged(x_t, x, tl.where(between, -a, 0.))
        x = x_next
    return refined(x, x_t, a_t)


@triton.jit
def chunk_inverse(k, e, erase, erase_t):
    """(I + A)^-1 of a chunk; the ratios as from erase_ratios."""
    k_k = tl.dot(k, tl.trans(k), input_precision='tf32x3')
    return unit_inverse(k_k * erase * e[None, :], k_k * erase_t * e[:, None])


@triton.jit
def chunk_gates(log_decay, step_size, pixel, exists, stride_w, stride_e):
    """log2 w_t, log2 r_t0 and e_t of a chunk, (CHUNK,) each; without a token w = 1 and e = 0, which change nothing."""
    log_w = tl.load(log_decay + pixel * stride_w, exists, other=0.).to(tl.float32)
    log_w = tl.maximum(log_w, LEAST, tl.PropagateNan.ALL) * LOG2_E
    e = tl.load(step_size + pixel * stride_e, exists, other=0.).to(tl.float32)
    return log_w, tl.cumsum(log_w, 0), e


@triton.jit
def chunk_total(g, token, length):
    """log2 r_C0, g of the last token to the bit: a GPU adds up to each token in an order of its own."""
    last = (token == length - 1) | ((tl.arange(0, CHUNK) == CHUNK - 1) & (token < length))
    return tl.sum(tl.where(last, g, 0.), 0)


@triton.jit
def erase_ratios(log_w, g):
    """r_{t-1,s} for s < t, else 0, (CHUNK, CHUNK), and its transposed; g = log2 r_t0."""
    row, column = tl.arange(0, CHUNK)[:, None], tl.arange(0, CHUNK)[None, :]
    before = g - log_w
    # Between neighbours lies no decay; the difference of two sums would not be zero to the bit.
    return (tl.where(column < row, tl.exp2(tl.where(column == row - 1, 0., before[:, None] - g[None, :])), 0.),
            tl.where(row < column, tl.exp2(tl.where(row == column - 1, 0., before[None, :] - g[:, None])), 0.))


@triton.jit
def read_ratios(erase, log_w):
    """r_ts for s <= t, else 0; erase: r_{t-1,s}."""
    same = tl.arange(0, CHUNK)[:, None] == tl.arange(0, CHUNK)[None, :]
    return tl.where(same, 1., erase * tl.exp2(log_w)[:, None])
