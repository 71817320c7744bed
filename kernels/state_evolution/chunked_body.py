"""State evolution by chunks of C tokens: matrix products inside a chunk, one affine step per chunk between them.

For one head, a chunk entered with state S, and r_ts = w_{s+1} ... w_t (r_t0 thus counts from the chunk's start):

    A_ts = r_{t-1,s} e_s (k_t . k_s)  for s < t      M_ts = r_ts e_s (q_t . k_s)  for s <= t      F_s = r_Cs e_s k_s
    (I + A) U = V - diag(r_{t-1,0}) K S^T            prediction errors u_t
    O  = diag(r_t0) Q S^T + M U
    S' = r_C0 S + U^T F

U = U0 + W S^T is affine in S, and so are both results: O = N S^T + M U0 and S' = S P + H. All but S is known to every
chunk at once; only S' = S P + H walks. The backward pass mirrors it: dS = dS' P^T + dO^T N walks back, the rest is
again known at once, and what it needs of the forward pass is computed anew from the states between chunks.

The ratios r are exponentials of differences that are never positive, and I + A is inverted by a triangular solve:
neither strong decay nor identical keys overflow.

Source: Yang et al., "Parallelizing Linear Transformers with the Delta Rule over Sequence Length" (2024) without decay;
here the error is predicted from the state before its decay, as in Eq. 5 of Lu et al. (2025).
"""
from functools import reduce

import torch
import torch.nn.functional as F

from .dtypes import LEAST_LOG_DECAY, compute_dtype
from .scan_orders import scan_orders

# Elements of one temporary: on a CPU it should stay in the cache, on a GPU it should fill the device.
SLAB_ELEMENTS_CPU = 2 ** 17
SLAB_ELEMENTS_GPU = 2 ** 24


class Layout:
    """How D scans of a batch fall into N chunks of C tokens, of which a slab of n is computed at a time.

    With G = D * B * H streams, a slab's tensors are (n * G, C, ...).
    """

    def __init__(self, q, v, order, chunk_size, dtype):
        """order (D, L): the number of the token that scan d visits as its t-th."""
        scans, length = order.shape
        batch, _, heads, q_dim = q.shape
        self.dtype = dtype
        self.size = min(chunk_size, length)
        self.chunks = count_chunks(length, chunk_size)
        self.in_last = length - (self.chunks - 1) * self.size
        self.streams = scans * batch * heads
        elements = SLAB_ELEMENTS_CPU if q.device.type == 'cpu' else SLAB_ELEMENTS_GPU
        self.per_slab = max(1, elements // (self.streams * self.size * max(self.size, q_dim, v.shape[-1])))

        def numbers(n):
            return torch.arange(n, device=q.device)

        # Where in (B, L, H) each token of each chunk lies; where in (D, B, L, H) its gates; and where in (N, G, C) each
        # scan put each token.
        tokens = F.pad(order, (0, self.chunks * self.size - length)).view(scans, self.chunks, self.size).transpose(0, 1)
        sample = numbers(batch)[:, None, None]
        self.rows = (sample * length + tokens[:, :, None, None]) * heads + numbers(heads)[:, None]    # (N, D, B, H, C)
        self.gate_rows = self.rows + numbers(scans)[:, None, None, None] * (batch * length * heads)
        place = torch.empty_like(order).scatter_(1, order, numbers(length).expand_as(order))[:, None, :, None]
        stream = numbers(self.streams).view(scans, batch, 1, heads)
        self.places = (place // self.size * self.streams + stream) * self.size + place % self.size    # (D, B, L, H)

        self.eye = torch.eye(self.size, dtype=dtype, device=q.device)
        # Of r_ts, t and s in 0..C: no ratio reaches from a later token to an earlier one.
        self.causal = torch.ones((self.size + 1,) * 2, dtype=dtype, device=q.device).tril_()

    def slabs(self):
        return [slice(n, min(n + self.per_slab, self.chunks)) for n in range(0, self.chunks, self.per_slab)]

    def take(self, slab, *tensors):
        """Each (B, L, H, D) -> (n * G, C, D)."""
        rows, taken = self.rows[slab].flatten(), []
        for x in tensors:
            x = x.reshape(-1, x.shape[-1]).index_select(0, rows).view(-1, self.size, x.shape[-1]).to(self.dtype)
            if slab.stop == self.chunks:
                self.clear_padding(x.unflatten(0, (-1, self.streams)))
            taken.append(x)
        return taken

    def take_gates(self, x):
        """x (D, B, L, H) -> (N, G, C)."""
        x = x.reshape(-1).take(self.gate_rows).to(self.dtype).flatten(1, 3)
        return self.clear_padding(x)

    def clear_padding(self, x):
        """x (..., G, C, ...): tokens past the end are zero, which makes them change nothing."""
        x[-1, :, self.in_last:] = 0
        return x

    def new(self, *shape):
        return torch.empty(*shape, dtype=self.dtype, device=self.rows.device)

    def sum_scans(self, x):
        """x (N, G, C, D) -> (B, L, H, D), every token's values summed over the scans."""
        rows = x.view(-1, x.shape[-1])
        parts = (rows.index_select(0, place.flatten()) for place in self.places)
        return reduce(torch.Tensor.add_, parts).view(*self.places.shape[1:], -1)


def count_chunks(length, chunk_size):
    return (length + chunk_size - 1) // chunk_size


class Slab:
    """What both passes need of some chunks before any state is known; names as at the top of this file."""

    def __init__(self, layout, n, q, k, v, g, e):
        """g (N, G, C+1): log r_t0 for t = 0..C; e (N, G, C, 1)."""
        self.q, self.k, v = layout.take(n, q, k, v)                                   # (n*G, C, D)
        self.e = e[n].flatten(0, 1)                                                   # (n*G, C, 1)
        g = g[n].flatten(0, 1)
        # Exponents that are not used could overflow; that of -inf would take a CPU several times as long.
        r = (g[:, :, None] - g[:, None]).mul_(layout.causal).exp_().mul_(layout.causal)    # (n*G, C+1, C+1)
        self.r_erase, self.r_read = r[:, :-1, 1:], r[:, 1:, 1:]                       # r_{t-1,s}, r_ts
        self.minus_r_predict, self.r_after = -r[:, :-1, :1], r[:, 1:, :1]             # -r_{t-1,0}, r_t0
        self.r_left, self.r_chunk = r[:, -1, 1:, None], r[:, -1, :1]                  # r_Cs, r_C0

        self.ek = self.k * self.e
        self.f = self.ek * self.r_left
        a = torch.bmm(self.k, self.ek.mT).mul_(self.r_erase)
        self.m = torch.bmm(self.q, self.ek.mT).mul_(self.r_read)
        # Above its diagonal `a` is zero, the solve takes its diagonal for one.
        self.inverse = torch.linalg.solve_triangular(a, layout.eye.expand_as(a), upper=False, unitriangular=True)
        self.w = torch.bmm(self.inverse, self.k * self.minus_r_predict)
        self.u0 = torch.bmm(self.inverse, v)
        self.p = torch.bmm(self.w.mT, self.f)
        self.p.diagonal(dim1=1, dim2=2).add_(self.r_chunk)
        self.n = (self.q * self.r_after).baddbmm_(self.m, self.w)


def states_shape(q, v, scans, chunk_size):
    """The first states, and those after each of N chunks: (N+1, G, Dv, Dk)."""
    return count_chunks(q.shape[1], chunk_size) + 1, scans * q.shape[0] * q.shape[2], v.shape[3], q.shape[3]


def forward(q, k, v, log_decay, step_size, initial_state, height, width, directions, chunk_size, keep_states):
    """As operators.py says."""
    order = scan_orders(height, width, directions, q.device)
    layout = Layout(q, v, order, chunk_size, compute_dtype(q, k, v, log_decay, step_size))
    g = F.pad(layout.take_gates(log_decay).clamp_min_(LEAST_LOG_DECAY), (1, 0)).cumsum(-1)
    e = layout.take_gates(step_size)[..., None]
    streams, v_dim, q_dim = layout.streams, v.shape[-1], q.shape[-1]

    kept = layout.new(layout.chunks + 1 if keep_states else 0, streams, v_dim, q_dim)
    state = kept.new_zeros(kept.shape[1:]) if initial_state is None else initial_state.flatten(0, 2)
    o = layout.new(layout.chunks, streams, layout.size, v_dim)
    for n in layout.slabs():
        slab = Slab(layout, n, q, k, v, g, e)
        states = kept[n.start:n.stop + 1] if keep_states else layout.new(n.stop - n.start + 1, *kept.shape[1:])
        states[0] = state
        torch.bmm(slab.u0.mT, slab.f, out=states[1:].flatten(0, 1))                   # H
        state = states[0]
        for after, p in zip(states[1:].unbind(), slab.p.unflatten(0, (-1, streams)).unbind()):
            state = after.baddbmm_(state, p)
        o_n = o[n].flatten(0, 1)
        torch.bmm(slab.m, slab.u0, out=o_n).baddbmm_(slab.n, states[:-1].flatten(0, 1).mT)
    state = state.clone().view(len(order), len(q), -1, v_dim, q_dim)
    return layout.sum_scans(o).to(v.dtype), state, kept


def backward(q, k, v, log_decay, step_size, states, height, width, directions, chunk_size, d_o, d_state):
    """As operators.py says."""
    order = scan_orders(height, width, directions, q.device)
    layout = Layout(q, v, order, chunk_size, states.dtype)
    g = F.pad(layout.take_gates(log_decay).clamp_min_(LEAST_LOG_DECAY), (1, 0)).cumsum(-1)
    e = layout.take_gates(step_size)[..., None]
    streams, v_dim, q_dim = layout.streams, v.shape[-1], q.shape[-1]
    d_o = torch.zeros_like(v) if d_o is None else d_o
    d_state = torch.zeros_like(states[0]) if d_state is None else d_state.flatten(0, 2).to(states.dtype)

    d_q, d_k, d_v = (layout.new(layout.chunks, streams, layout.size, dim) for dim in (q_dim, q_dim, v_dim))
    d_log_w, d_e = (layout.new(layout.chunks, streams, layout.size) for _ in range(2))
    for n in reversed(layout.slabs()):
        slab = Slab(layout, n, q, k, v, g, e)
        d_out, = layout.take(n, d_o)
        before, after = states[n].flatten(0, 1), states[n.start + 1:n.stop + 1].flatten(0, 1)
        # d_states[j] is the gradient of the state that enters chunk j, d_states[j + 1] of the one that leaves it.
        d_states = layout.new(n.stop - n.start + 1, *states.shape[1:])
        d_states[-1] = d_state
        torch.bmm(d_out.mT, slab.n, out=d_states[:-1].flatten(0, 1))
        p_n = slab.p.mT.unflatten(0, (-1, streams)).unbind()
        for d_before, p in zip(reversed(d_states[:-1].unbind()), reversed(p_n)):
            d_state = d_before.baddbmm_(d_state, p)
        d_after = d_states[1:].flatten(0, 1)

        d_q_n, d_k_n, d_v_n = (x[n].flatten(0, 1) for x in (d_q, d_k, d_v))
        u = slab.u0.baddbmm_(slab.w, before.mT)
        d_u = torch.bmm(slab.m.mT, d_out).baddbmm_(slab.f, d_after.mT)
        torch.bmm(slab.inverse.mT, d_u, out=d_v_n)
        d_read = torch.bmm(d_out, u.mT).mul_(slab.r_read)                             # of e_s q_t . k_s
        d_erase = torch.bmm(d_v_n, u.mT).mul_(slab.r_erase)                           # of -e_s k_t . k_s
        torch.bmm(d_out, before, out=d_q_n).mul_(slab.r_after).baddbmm_(d_read, slab.ek)
        # k_t acts twice: it predicts, and it writes, scaled by e_t.
        d_predict = torch.bmm(d_v_n, before).mul_(slab.minus_r_predict).baddbmm_(d_erase, slab.ek, alpha=-1)
        d_write = torch.bmm(u, d_after).mul_(slab.r_left)
        d_write.baddbmm_(d_read.mT, slab.q).baddbmm_(d_erase.mT, slab.k, alpha=-1)
        torch.addcmul(d_predict, d_write, slab.e, out=d_k_n)
        d_e_n = (slab.k * d_write).sum(-1)

        # log w_t scales every ratio that spans token t: from sources before t to sinks at t or, for predictions, past
        # t.
        past = (slab.k * d_predict).sum(-1)
        spanned = (slab.q * d_q_n).sum(-1) - slab.e[..., 0] * d_e_n + past
        spanned[:, -1] += (after * d_after).sum((1, 2))
        d_log_w[n] = (spanned.flip(-1).cumsum(-1).flip(-1) - past).unflatten(0, (-1, streams))
        d_e[n] = d_e_n.unflatten(0, (-1, streams))

    inputs = (q, k, v, log_decay, step_size)
    grads = [layout.sum_scans(x) for x in (d_q, d_k, d_v)] + [x.take(layout.places) for x in (d_log_w, d_e)]
    d_state = d_state.clone().view(len(order), len(q), -1, v_dim, q_dim)
    return *(grad.to(x.dtype) for x, grad in zip(inputs, grads)), d_state
