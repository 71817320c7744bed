"""The operator inside a small network, and what torch.library holds against it: for every backend, wherever it runs."""
import torch
from op_cases import make_inputs
from torch import nn
from torch.library import opcheck

from state_evolution import state_evolution_2d
from state_evolution.operators import OPERATORS


class Block(nn.Module):
    """A projection into the operator, as a network would use it; x (B, 20, 8)."""

    def __init__(self, backend):
        super().__init__()
        self.backend = backend
        self.project = nn.Linear(8, 2 * 3 * 4 + 2 * 2)

    def forward(self, x):
        q, k, v, w, e = self.project(x).split([8, 8, 8, 2, 2], -1)
        q, k, v = (y.unflatten(-1, (2, 4)) for y in (q, k, v))
        k = nn.functional.normalize(k, dim=-1)
        return state_evolution_2d(q, k, v, -nn.functional.softplus(w), e.sigmoid(), 4, 5,
                                  backend=self.backend).flatten(2)


def block_and_input(backend, device='cpu'):
    torch.manual_seed(0)
    return Block(backend).to(device), torch.randn(2, 20, 8).to(device)


def parameter_gradients(module, output):
    return torch.autograd.grad(output.square().sum(), list(module.parameters()))


def assert_all_equal(results, expected):
    assert all(torch.equal(x, y) for x, y in zip(results, expected))


def check_operator(backend, with_state, device='cpu', dtype=torch.float64):
    """Raises what opcheck finds."""
    inputs = make_inputs(length=6, dtype=dtype)
    q, k, v, log_decay, step_size, state = [x.to(device).requires_grad_() for x in inputs]
    log_decay, step_size, state = (x.expand(2, *x.shape) for x in (log_decay, step_size, state))
    scans = 2, 3, [0, 3], 2
    opcheck(OPERATORS[backend], (q, k, v, log_decay, step_size, state if with_state else None, *scans, True))
    tensors = [x.detach() for x in (q, k, v, log_decay, step_size)]
    states = OPERATORS[backend](*tensors, None, *scans, True)[2]
    opcheck(getattr(torch.ops.state_evolution, f'{backend}_backward'),
            (*tensors, states, *scans, v.detach(), state.detach().contiguous() if with_state else None))


def compiled_differs(backend, compiler, device='cpu', dynamic=None):
    """The largest difference of outputs and gradients once a block is compiled as one graph."""
    block, x = block_and_input(backend, device)
    compiled = torch.compile(block, fullgraph=True, backend=compiler, dynamic=dynamic)
    expected, o = block(x), compiled(x)
    pairs = zip((o, *parameter_gradients(block, o)), (expected, *parameter_gradients(block, expected)))
    return max((mine - theirs).abs().max().item() for mine, theirs in pairs)
