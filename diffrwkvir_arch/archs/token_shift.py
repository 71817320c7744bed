"""Token shifts: how a token sees its neighbours before it is projected (Fig. 5 and 6).

All take and return (B, C, H, W). Omni-shift is the paper's; uni- and quad-shift are its ablations (Table 5).
"""
import torch
import torch.nn.functional as F
from torch import nn


class OmniShift(nn.Module):
    """Identity + 1x1 + 3x3 + 5x5 depthwise convolutions, each with a learned weight (Fig. 6).

    The branches are linear, so they are summed into one 5x5 depthwise kernel first and convolved once, in training too.
    """

    def __init__(self, dim):
        super().__init__()
        self.dim = dim
        self.branch_weight = nn.Parameter(torch.tensor([0.25, 0.25, 0.25, 0.25]))
        self.kernels = nn.ParameterList(nn.Parameter(torch.empty(dim, 1, size, size)) for size in (1, 3, 5))
        for kernel in self.kernels:
            nn.init.kaiming_uniform_(kernel, a=5**0.5)

    def fused_kernel(self):
        """The sum of all branches as one (C, 1, 5, 5) kernel."""
        identity, *weights = self.branch_weight
        fused = F.pad(identity.expand(self.dim, 1, 1, 1), (2, 2, 2, 2))
        for n, weight in enumerate(weights):
            # By index: torch.compile of PyTorch 2.8 cannot iterate over a ParameterList.
            kernel = self.kernels[n]
            margin = 2 - kernel.shape[-1] // 2
            fused = fused + F.pad(weight * kernel, (margin, ) * 4)
        return fused

    def forward(self, x):
        return F.conv2d(x, self.fused_kernel(), padding=2, groups=self.dim)


class QuadShift(nn.Module):
    """A quarter of the channels comes from the left, right, upper and lower neighbour each; zeros from outside."""

    def __init__(self, dim):
        super().__init__()
        if dim < 4:
            raise ValueError(f'quad shift needs at least 4 channels, got {dim}')

    def forward(self, x):
        left, right, up, down = x.tensor_split(4, dim=1)
        return torch.cat([
            F.pad(left, (1, -1)),
            F.pad(right, (-1, 1)),
            F.pad(up, (0, 0, 1, -1)),
            F.pad(down, (0, 0, -1, 1)),
        ], dim=1)


class UniShift(nn.Module):
    """Every channel comes from the preceding token in row-major order, as in RWKV for text; zeros before the first."""

    def __init__(self, dim):
        super().__init__()

    def forward(self, x):
        return F.pad(x.flatten(2), (1, -1)).view_as(x)


# Name in an option file -> what builds the shift from (dim); add your own.
SHIFTS = {'omni': OmniShift, 'quad': QuadShift, 'uni': UniShift}
