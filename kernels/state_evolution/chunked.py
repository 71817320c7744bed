"""State evolution by chunks of C tokens: matrix products inside a chunk, one step per chunk between them."""
import torch
import torch.nn.functional as F


def chunked(q, k, v, log_decay, step_size, initial_state, chunk_size):
    batch, length, heads, _ = v.shape
    size = min(chunk_size or 16, length)

    def chunks(x):    # (B, L, H, D) -> (N, B*H, C, D); zero rows change nothing
        x = F.pad(x, (0, 0, 0, 0, 0, -length % size))
        return x.unflatten(1, (-1, size)).permute(1, 0, 3, 2, 4).flatten(1, 2)

    q, k, v, log_w, eta = map(chunks, (q, k, v, log_decay[..., None], step_size[..., None]))
    g = log_w.cumsum(2)                                             # (N, G, C, 1)
    before = g - log_w
    never = torch.full((size, size), -torch.inf, dtype=q.dtype, device=q.device)
    erase = (before - g.mT + never.triu(0)).exp() * (k @ k.mT) * eta.mT
    read = (g - g.mT + never.triu(1)).exp() * (q @ k.mT) * eta.mT
    eye = torch.eye(size, dtype=q.dtype, device=q.device)
    both = torch.cat([v, before.exp() * k], -1)
    u, w = torch.linalg.solve_triangular(erase + eye, both, upper=False, unitriangular=True).split([v.shape[-1], k.shape[-1]], -1)
    last = g[:, :, -1:]
    write = (last - g).exp() * eta * k
    state, entering = initial_state.flatten(0, 1), []
    for u_n, w_n, write_n, decay in zip(u.unbind(), w.unbind(), write.unbind(), last.exp().unbind()):
        entering.append(state)
        state = decay * state + (u_n - w_n @ state.mT).mT @ write_n
    entering = torch.stack(entering)
    o = g.exp() * q @ entering.mT + read @ (u - w @ entering.mT)
    o = o.unflatten(1, (batch, heads)).permute(1, 0, 3, 2, 4).flatten(1, 2)[:, :length]
    return o, state.unflatten(0, (batch, heads))
