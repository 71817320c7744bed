"""State evolution in PyTorch operators without memory, for what takes them apart: torch.export, ONNX, torch.func.

The chunk form of chunked_body.py, with its names, for all chunks at once. From chunk to chunk S' = S P + H: pairs
of these maps become one map until a single one is left, and learn their states on the way back. (I + A)^-1 merges
inverses of diagonal blocks pair by pair, as ONNX has no triangular solve. All sizes but the batch become constants of
the graph: how the maps are paired depends on how many there are.

It holds one state per chunk, scan and head, and as many maps; other bodies are faster.
"""
import torch
import torch.nn.functional as F

from .dtypes import LEAST_LOG_DECAY, compute_dtype, without_autocast


def forward(q, k, v, log_decay, step_size, initial_state, height, width, directions, chunk_size):
    """As `run_scans`."""
    scans = len(directions)
    batch, length, heads, v_dim = v.shape
    dtype = compute_dtype(q, k, v, log_decay, step_size)
    size = min(chunk_size, length)
    padding = -length % size

    def chunks(visits):
        """D times (L, B, H, d) -> (N, D * B * H, C, d); zeros past the end change nothing."""
        x = F.pad(torch.stack(visits), (0, 0, 0, 0, 0, 0, 0, padding)).unflatten(1, (-1, size))
        return x.permute(1, 0, 3, 4, 2, 5).flatten(1, 3)

    with without_autocast(q.device):
        tokens = torch.cat([x.to(dtype) for x in (q, k, v)], -1).transpose(0, 1)
        gates = torch.stack([log_decay.to(dtype).clamp(min=LEAST_LOG_DECAY), step_size.to(dtype)], -1)
        gates = gates.transpose(1, 2).unbind()
        q_c, k_c, v_c = chunks([visited(tokens, height, width, direction) for direction in directions]).split(
            [q.shape[-1], k.shape[-1], v_dim], -1)
        log_w, e = chunks([visited(gate, height, width, direction)
                           for gate, direction in zip(gates, directions)]).split(1, -1)
        g = F.pad(log_w.cumsum(2), (0, 0, 1, 0))    # log r_t0 for t = 0..C
        g_before, g = g[:, :, :-1], g[:, :, 1:]
        row, column = torch.arange(size, device=q.device)[:, None], torch.arange(size, device=q.device)
        # Exponents that are not used could overflow.
        erase = (g_before - g.mT).tril(-1).exp().tril(-1)
        read = (g - g.mT).tril().exp().tril()

        ek = k_c * e
        m = q_c @ ek.mT * read
        x = unit_inverse(k_c @ ek.mT * erase, row, column)
        u, w = x @ v_c, x @ (k_c * -g_before.exp())
        f = ek * (g[:, :, -1:] - g).exp()
        eye = torch.eye(q.shape[-1], dtype=dtype, device=q.device)
        h = u.mT @ f
        first = torch.zeros_like(h[:1]) if initial_state is None else initial_state.flatten(0, 2)[None].to(dtype)
        before, last = join(w.mT @ f + eye * g[:, :, -1:].exp(), h, first, eye)
        o = (q_c * g.exp() + m @ w) @ before.mT + m @ u

        o = o.unflatten(1, (scans, batch, heads)).permute(1, 0, 4, 2, 3, 5).flatten(1, 2)    # (D, N * C, B, H, Dv)
        # Of columns that were read as rows the rows are the columns.
        o = sum(visited(scan, width, height, direction) for scan, direction in zip(o[:, :length].unbind(), directions))
        o = o.transpose(0, 1)
    return o.to(v.dtype), last.view(scans, batch, heads, v_dim, q.shape[-1])


def visited(x, height, width, direction):
    """x (L, ...), pixels row by row -> in the order in which a scan, a number of DIRECTIONS, visits them."""
    if direction >= 2:
        x = x.unflatten(0, (height, width)).transpose(0, 1).flatten(0, 1)
    return x.flip(0) if direction % 2 else x


def unit_inverse(a, row, column):
    """(I + A)^-1 for strictly lower A (..., C, C)."""
    inverse = (row == column).to(a.dtype) - a * (row // 2 == column // 2)
    level = 1
    while 2 ** level < a.shape[-1]:
        # A between the halves of a pair of blocks of 2 ** level.
        between = (row >> level ^ column >> level) == 1
        inverse = inverse - inverse @ (a * between) @ inverse
        level += 1
    return inverse


def join(p, h, first, eye):
    """p (N, G, Dk, Dk), h (N, G, Dv, Dk) of every chunk, the first state -> the states before each, and the last."""
    if len(p) == 1:
        return first, first @ p + h
    count = len(p)
    if count % 2:    # one more, which changes nothing
        p, h = torch.cat([p, eye.expand_as(p[:1])]), torch.cat([h, torch.zeros_like(h[:1])])
    (p, p_next), (h, h_next) = (x.unflatten(0, (-1, 2)).unbind(1) for x in (p, h))
    before, last = join(p @ p_next, h @ p_next + h_next, first, eye)
    return torch.stack([before, before @ p + h], 1).flatten(0, 1)[:count], last
