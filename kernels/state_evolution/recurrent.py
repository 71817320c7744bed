"""The definition of state evolution, one token a step: every other body is measured against this one."""
import torch


def recurrent(q, k, v, log_decay, step_size, initial_state):
    """Walks along L (Eq. 5); autograd differentiates it, as often as asked. Shapes as in `state_evolution`, one dtype.

    Returns:
        o (B, L, H, Dv), state (B, H, Dv, Dk)
    """
    batch, length, heads, _ = v.shape

    def tokens(x):    # (B, L, H, D) -> L columns (B*H, D, 1)
        return x.transpose(0, 1).reshape(length, batch * heads, -1, 1).unbind()

    written = step_size[..., None] * k    # e_t k_t
    state = initial_state.flatten(0, 1)
    outputs = []
    for q_t, k_t, v_t, w_t, ek_t in zip(*map(tokens, (q, k, v, log_decay.exp(), written))):
        error = torch.baddbmm(v_t, state, k_t, alpha=-1)
        state = torch.baddbmm(w_t * state, error, ek_t.mT)
        outputs.append(torch.bmm(state, q_t))
    o = torch.stack(outputs).view(length, batch, heads, -1).transpose(0, 1)
    return o, state.unflatten(0, (batch, heads))
