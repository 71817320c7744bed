"""State evolution by chunks of C tokens: matrix products inside a chunk, one affine step per chunk between them.

For one head, a chunk entered with state S, and r_ts = prod_{s < i <= t} w_i (so r_t0 counts from the chunk's start):

    A_ts = r_{t-1,s} e_s (k_t . k_s)  for s < t      M_ts = r_ts e_s (q_t . k_s)  for s <= t      F_s = r_Cs e_s k_s
    (I + A) U = V - diag(r_{t-1,0}) K S^T            prediction errors u_t
    O  = diag(r_t0) Q S^T + M U
    S' = r_C0 S + U^T F

U = U0 - W S^T is affine in S, hence so are both results: S' = S P + H and O = N S^T + M U0, with P, H and N known to
every chunk at once. Only S' = S P + H walks. The backward pass is its mirror: dS = dS' P^T + dO^T N walks back, the
rest is again known at once.

The ratios r are exponentials of differences that are never positive, and I + A is inverted by a triangular solve:
neither strong decay nor identical keys overflow.
"""
import torch

from .dtypes import compute_dtype

# Elements of one temporary. On a CPU it should stay in the cache, on a GPU it should fill the device.
SLAB_ELEMENTS = {'cpu': 2 ** 17}
SLAB_ELEMENTS_GPU = 2 ** 24


class Layout:
    """How D scans of a batch fall into N chunks of C tokens, and how many chunks are computed together.

    Within a slab of n chunks every tensor is (n * D * B * H, C, ...). Order (D, L) holds each scan's token numbers.
    """

    def __init__(self, q, v, order, size):
        batch, length, heads, q_dim = q.shape
        scans = len(order)
        self.size = min(size, length)
        self.chunks = count_chunks(length, size)
        self.streams = scans * batch * heads
        widest = max(self.size, q_dim, v.shape[-1])
        elements = SLAB_ELEMENTS.get(q.device.type, SLAB_ELEMENTS_GPU)
        self.slab = max(1, elements // (self.streams * self.size * widest))

        def spread(n):
            return torch.arange(n, device=q.device)

        d, b, h = spread(scans)[:, None, None, None], spread(batch)[:, None, None], spread(heads)[:, None]
        # Token number L is the row of zeros that pads the last chunk: k = 0, e = 0, log w = 0 change nothing.
        padded = torch.nn.functional.pad(order, (0, self.chunks * self.size - length), value=length)
        tokens = padded.view(scans, self.chunks, 1, 1, self.size).transpose(0, 1)    # (N, D, 1, 1, C)
        self.rows = (b * (length + 1) + tokens) * heads + h                            # (N, D, B, H, C)
        self.gate_rows = self.rows + d * (batch * (length + 1) * heads)
        place = torch.empty_like(order).scatter_(1, order, spread(length).expand_as(order))
        place = place.view(scans, 1, length, 1)
        stream = (d * batch + b) * heads + spread(heads)                               # (D, B, 1, H)
        self.places = ((place // self.size) * self.streams + stream) * self.size + place % self.size    # (D, B, L, H)

    def slabs(self):
        return [slice(n, min(n + self.slab, self.chunks)) for n in range(0, self.chunks, self.slab)]


def count_chunks(length, size):
    size = min(size, length)
    return (length + size - 1) // size


def table(tensors, dtype):
    """Tensors (..., L, H, D_i) side by side as rows (... * (L+1) * H, sum D_i); each sample ends with a token of zeros."""
    *outer, length, heads, _ = tensors[0].shape
    rows = tensors[0].new_empty(*outer, length + 1, heads, sum(x.shape[-1] for x in tensors), dtype=dtype)
    rows[..., -1, :, :] = 0
    for part, x in zip(rows[..., :-1, :, :].split([x.shape[-1] for x in tensors], -1), tensors):
        part.copy_(x)
    return rows.flatten(0, -2)


def gather(rows, index):
    """Rows (R, F) at index (..., C) -> (G, C, F)."""
    return rows.index_select(0, index.flatten()).view(-1, index.shape[-1], rows.shape[-1])


def sum_scans(x, places):
    """x (N, G, C, F) -> (B, L, H, F): every token's value, summed over the D scans that visited it."""
    rows = x.flatten(0, 2)
    return sum(rows.index_select(0, place.flatten()) for place in places).view(*places.shape[1:], -1)


class Slab:
    """What both passes need of some chunks before any state is known (names as in the module's docstring)."""

    def __init__(self, qkv, gates, q_dim, never):
        self.q, self.k, self.v = qkv.split([q_dim, q_dim, qkv.shape[-1] - 2 * q_dim], -1)
        log_w, self.e = gates.unbind(-1)                                              # (G, C)
        size = log_w.shape[-1]
        g = torch.nn.functional.pad(log_w, (1, 0)).cumsum(-1)                         # g_0 = 0, ..., g_C
        # r[t, s] for t, s = 0..C, zero where s > t.
        self.r = (g[:, :, None] - g[:, None, :]).add_(never).exp_()                   # (G, C+1, C+1)
        self.r_erase, self.r_read = self.r[:, :-1, 1:], self.r[:, 1:, 1:]
        self.before, self.after = self.r[:, :-1, :1], self.r[:, 1:, :1]
        self.left, self.through = self.r[:, -1, 1:, None], self.r[:, -1:, :1]
        self.ek = self.k * self.e[..., None]
        self.write = self.ek * self.left                                              # F
        erase = torch.bmm(self.k, self.ek.mT).mul_(self.r_erase)                      # A
        self.read = torch.bmm(self.q, self.ek.mT).mul_(self.r_read)                   # M
        eye = torch.eye(size, dtype=g.dtype, device=g.device).expand_as(erase)
        self.inverse = torch.linalg.solve_triangular(erase, eye, upper=False, unitriangular=True)
        self.w = torch.bmm(self.inverse, self.k * self.before)                        # W
        self.u0 = torch.bmm(self.inverse, self.v)                                     # U0
        self.carry = torch.bmm(self.w.mT, self.write).neg_()                          # P
        self.carry.diagonal(dim1=1, dim2=2).add_(self.through[..., 0])
        self.n = torch.baddbmm(self.q * self.after, self.read, self.w, alpha=-1)      # N


def causal_mask(size, like):
    """(C+1, C+1): -inf above the diagonal, where the later token would be the source."""
    return torch.full((size + 1, size + 1), -torch.inf, dtype=like.dtype, device=like.device).triu_(1)


def forward(q, k, v, log_decay, step_size, initial_state, order, size, keep_states):
    """-> o (B, L, H, Dv), last state (D*B*H, Dv, Dk), states at the chunk boundaries (N+1 or, if not kept, 0, ...)."""
    layout = Layout(q, v, order, size)
    dtype = compute_dtype(q, k, v, log_decay, step_size)
    qkv, gates = table((q, k, v), dtype), table((log_decay[..., None], step_size[..., None]), dtype)
    q_dim, v_dim = q.shape[-1], v.shape[-1]
    never = causal_mask(layout.size, qkv)

    kept = qkv.new_empty(layout.chunks + 1 if keep_states else 0, layout.streams, v_dim, q_dim)
    state = qkv.new_zeros(kept.shape[1:]) if initial_state is None else initial_state.flatten(0, 2)
    o = qkv.new_empty(layout.chunks, layout.streams, layout.size, v_dim)
    for n in layout.slabs():
        slab = Slab(gather(qkv, layout.rows[n]), gather(gates, layout.gate_rows[n]), q_dim, never)
        states = kept[n.start:n.stop + 1] if keep_states else kept.new_empty(n.stop - n.start + 1, *kept.shape[1:])
        states[0] = state
        torch.bmm(slab.u0.mT, slab.write, out=states[1:].flatten(0, 1))               # H
        state = states[0]
        for following, carry in zip(states[1:].unbind(), slab.carry.unflatten(0, (-1, layout.streams)).unbind()):
            state = following.baddbmm_(state, carry)
        out = o[n].flatten(0, 1)
        torch.bmm(slab.read, slab.u0, out=out)
        out.baddbmm_(slab.n, states[:-1].flatten(0, 1).mT)
    return sum_scans(o, layout.places).to(v.dtype), state, kept


def backward(q, k, v, log_decay, step_size, states, order, size, d_o, d_state):
    """Gradients of q, k, v (B, L, H, D), of log_decay, step_size (D, B, L, H) and of the initial state."""
    layout = Layout(q, v, order, size)
    dtype = states.dtype
    qkv, gates = table((q, k, v), dtype), table((log_decay[..., None], step_size[..., None]), dtype)
    d_out = table((torch.zeros_like(v) if d_o is None else d_o,), dtype)
    q_dim, v_dim = q.shape[-1], v.shape[-1]
    never = causal_mask(layout.size, qkv)

    d_qkv = qkv.new_empty(layout.chunks, layout.streams, layout.size, 2 * q_dim + v_dim)
    d_gates = qkv.new_empty(layout.chunks, layout.streams, layout.size, 2)
    d_state = torch.zeros_like(states[0]) if d_state is None else d_state.flatten(0, 2).to(dtype)
    for n in reversed(layout.slabs()):
        slab = Slab(gather(qkv, layout.rows[n]), gather(gates, layout.gate_rows[n]), q_dim, never)
        d_out_n = gather(d_out, layout.rows[n])
        state = states[n].flatten(0, 1)
        # d_states[j] is the gradient of the state that enters chunk j, d_states[j+1] of the one that leaves it.
        d_states = states.new_empty(n.stop - n.start + 1, *states.shape[1:])
        d_states[-1] = d_state
        torch.bmm(d_out_n.mT, slab.n, out=d_states[:-1].flatten(0, 1))
        carries = slab.carry.mT.unflatten(0, (-1, layout.streams)).unbind()
        for entering, carry in zip(reversed(d_states[:-1].unbind()), reversed(carries)):
            d_state = entering.baddbmm_(d_state, carry)
        d_left = d_states[1:].flatten(0, 1)

        u = slab.u0.baddbmm_(slab.w, state.mT, alpha=-1)                              # U
        d_u = torch.bmm(slab.read.mT, d_out_n).baddbmm_(slab.write, d_left.mT)
        d_v = torch.bmm(slab.inverse.mT, d_u)
        d_read = torch.bmm(d_out_n, u.mT).mul_(slab.r_read)                           # of e_s q_t . k_s
        d_erase = torch.bmm(d_v, u.mT).mul_(slab.r_erase).neg_()                      # of e_s k_t . k_s
        d_q = torch.bmm(d_out_n, state).mul_(slab.after).baddbmm_(d_read, slab.ek)
        # k_t acts twice: what it predicts, and what it writes with step size e_t.
        d_k_predict = torch.bmm(d_v, state).mul_(slab.before).neg_().baddbmm_(d_erase, slab.ek)
        d_ek = torch.bmm(u, d_left).mul_(slab.left).baddbmm_(d_read.mT, slab.q).baddbmm_(d_erase.mT, slab.k)
        d_e = (slab.k * d_ek).sum(-1)

        # log w_t scales every ratio that spans token t: sources before it, sinks from t on.
        through_predict = (slab.k * d_k_predict).sum(-1)
        spanned = (slab.q * d_q).sum(-1) - slab.e * d_e + through_predict
        spanned[:, -1] += (states[n.start + 1:n.stop + 1].flatten(0, 1) * d_left).sum((1, 2))
        d_log_w = spanned.flip(-1).cumsum(-1).flip(-1) - through_predict

        parts = d_qkv[n].flatten(0, 1).split([q_dim, q_dim, v_dim], -1)
        for part, grad in zip(parts, (d_q, d_k_predict.addcmul_(d_ek, slab.e[..., None]), d_v)):
            part.copy_(grad)
        torch.stack([d_log_w, d_e], -1, out=d_gates[n].flatten(0, 1))

    d_qkv = sum_scans(d_qkv, layout.places).split([q_dim, q_dim, v_dim], -1)
    d_gates = gather(d_gates.flatten(0, 2), layout.places).view(*layout.places.shape, 2).unbind(-1)
    grads = [torch.empty(x.shape, dtype=x.dtype, device=x.device).copy_(grad)
             for x, grad in zip((q, k, v, log_decay, step_size), (*d_qkv, *d_gates))]
    return *grads, d_state.view(len(order), len(q), q.shape[2], v_dim, q_dim)
