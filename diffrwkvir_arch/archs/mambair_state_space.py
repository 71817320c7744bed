"""State-space equations whose step, input and output maps follow the tokens, as both MambaIR networks use them.

Guo et al., "MambaIR" (2024), Eq. 1-3, after Gu and Dao, "Mamba" (2023), Section 3.2: per direction k,

    [r, B, C] = W_k x      delta = softplus(V_k r + v_k)      A = -exp(A_log)      y = scan(x, delta, A, B, C) + D x

Parameters are named as in the official checkpoints (github.com/csguoh/MambaIR).
"""
import math

import torch
import torch.nn.functional as F
from torch import nn

from .selective_scan import selective_scan

# Range of the step delta that training starts from.
STEP_MIN, STEP_MAX = 1e-3, 1e-1


class StateSpace(nn.Module):
    """K independent scans over sequences of D channels with N states each.

    Args:
        dim (int): Channels D.
        states (int): States N per channel.
        rank (int): Width of r, which the step is made of.
        directions (int): K.
    """

    def __init__(self, dim, states, rank, directions):
        super().__init__()
        self.sizes = [rank, states, states]

        def uniform(*shape):
            return nn.Parameter(torch.empty(shape).uniform_(-shape[-1] ** -0.5, shape[-1] ** -0.5))

        self.x_proj_weight = uniform(directions, sum(self.sizes), dim)
        self.dt_projs_weight = uniform(directions, dim, rank)
        step = torch.empty(directions, dim).uniform_(math.log(STEP_MIN), math.log(STEP_MAX)).exp()
        # The inverse of softplus.
        self.dt_projs_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))
        self.A_logs = nn.Parameter(torch.arange(1., states + 1).log().repeat(directions * dim, 1))
        self.Ds = nn.Parameter(torch.ones(directions * dim))

    def scan(self, x, prompt=None):
        """Tokens in the order in which each direction visits them.

        Args:
            x (Tensor): (B, L, K, D).
            prompt (Tensor | None): (B, L, K, N), added to C.

        Returns:
            Tensor: y (B, L, K, D), float64 if x is, else float32.
        """
        wide = torch.promote_types(x.dtype, torch.float32)
        shape = self.dt_projs_bias.shape
        r, b, c = torch.einsum('blkd,kcd->blkc', x, self.x_proj_weight).split(self.sizes, dim=-1)
        delta = torch.einsum('blkr,kdr->blkd', r, self.dt_projs_weight)
        delta = F.softplus(delta.to(wide) + self.dt_projs_bias.to(wide))
        a = -self.A_logs.to(wide).exp().unflatten(0, shape)
        if prompt is not None:
            c = c.to(wide) + prompt
        x = x.to(wide)
        return selective_scan(x, delta, a, b, c) + self.Ds.to(wide).view(shape) * x
