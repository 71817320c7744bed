"""The definition of state evolution, one token a step: every other body is measured against this one."""
import torch


def recurrent(q, k, v, log_decay, step_size, initial_state):
    """Walks along L; autograd differentiates it. Arguments as `state_evolution`, all of one floating dtype.

    Returns:
        o (B, L, H, Dv), state (B, H, Dv, Dk)
    """
    batch, length, heads, _ = v.shape

    def tokens(x):    # (B, L, H, D) -> L times (B*H, D, 1)
        return x.transpose(0, 1).reshape(length, batch * heads, -1, 1).unbind()

    state = initial_state.flatten(0, 1)    # (B*H, Dv, Dk)
    outputs = []
    for q_t, k_t, v_t, w_t, e_t in zip(*map(tokens, (q, k, v, log_decay.exp(), step_size))):
        error = torch.baddbmm(v_t, state, k_t, alpha=-1)                      # v_t - k_t S_{t-1}^T
        state = torch.baddbmm(w_t * state, e_t * error, k_t.transpose(1, 2))    # Eq. 5
        outputs.append(torch.bmm(state, q_t))
    o = torch.stack(outputs).reshape(length, batch, heads, -1).transpose(0, 1)
    return o, state.unflatten(0, (batch, heads))
