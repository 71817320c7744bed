"""What the Triton kernels must compute, and how far from the definition they come; a script for the interpreter.

    TRITON_INTERPRET=1 python triton_cases.py RESULTS.json
"""
import json
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import torch

if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).parents[1]))
from op_cases import REGIMES, make_inputs, relative_error
from torch.utils.checkpoint import checkpoint
from torch_cases import assert_all_equal, block_and_input, check_operator, compiled_differs, parameter_gradients

from state_evolution import chunked_body, state_evolution_2d
from state_evolution.api import run_scans

RESULTS = ('o', 'last state', 'd_q', 'd_k', 'd_v', 'd_log_decay', 'd_step_size', 'd_initial_state')


@dataclass
class Case:
    height: int = 1
    width: int = 40
    directions: tuple = (0,)
    heads: int = 1
    q_dim: int = 16
    v_dim: int = 16
    regimes: tuple = ('random',)    # one sample of each
    initial: bool = True
    uses: tuple = (True, True)      # of o and the last state, which carry gradient
    forgets: bool = False           # everything at some tokens
    scale: float = 1.               # of the gradients that arrive
    slabs: int = 1
    segments: int = 1               # of a slab
    parts: int = 2                  # of a float32 number, where inputs have 16 bits
    far: bool = False               # 64-bit offsets, as of tensors beyond 2 ** 31 elements
    repeat: bool = False            # everything twice, as on a GPU always
    gradients: bool = True
    seed: int = 0


CASES = {
    **{f'length {length}': Case(width=length) for length in (1, 15, 16, 17)},
    'length 130': Case(width=130, directions=(1,)),
    'length 130, output alone': Case(width=130, uses=(True, False), initial=False, far=True),
    'length 130, last state alone': Case(width=130, regimes=('decay near 1',), uses=(False, True)),
    '5x7, four directions': Case(5, 7, (0, 1, 2, 3), heads=2, q_dim=24, v_dim=24),
    '8x8, columns of one channel': Case(8, 8, (3, 2), q_dim=1, v_dim=1, repeat=True),
    '12x10, state of 48 rows of 32': Case(12, 10, (3,), q_dim=32, v_dim=48),
    '12x16, state of 16 rows of 48, three segments': Case(12, 16, (2, 1), q_dim=48, v_dim=16, segments=3),
    '16x16, four segments': Case(16, 16, (2,), regimes=('flat image',), segments=4, initial=False),
    '17x17, three slabs': Case(17, 17, (1, 2), q_dim=32, v_dim=32, slabs=3, repeat=True),
    '16x34, two slabs, each in two segments': Case(16, 34, (3,), slabs=2, segments=2, regimes=('flat image',)),
    'three parts': Case(9, 9, (1, 2), parts=3, regimes=('nearly parallel keys',), segments=2),
    'small gradients': Case(width=50, scale=1e-3),
    'some tokens forget everything': Case(width=50, regimes=('random', 'flat image'), forgets=True),
    'every regime': Case(width=80, regimes=tuple(REGIMES)),
    # A sample that decays begins with a step of nearly 0, so that float16 holds little of that row of (I + A)^-1.
    'every regime, other samples': Case(width=80, regimes=tuple(REGIMES), seed=50),
    # What is added up past the last token, and between neighbours, shows where the decay is strong.
    'every regime, length 77': Case(width=77, regimes=tuple(REGIMES)),
    'every regime, length 512': Case(width=512, regimes=tuple(REGIMES), gradients=False, initial=False),
}


@contextmanager
def rigged(case):
    """Cuts the work as the case says, lets two programs share the jobs of `gradients`, and allocates only NaN."""
    from state_evolution import triton_body, triton_plan

    class Plan(triton_plan.Plan):
        def __init__(self, *args):
            super().__init__(*args)
            self.gradient_programs = 2
            for options in (self.prepare_options, self.walk_options, self.gradient_options):
                options['FAR'] |= case.far
            assert len(self.slabs()) == case.slabs
            assert all(-(-count // self.segment) == case.segments for _, count in self.slabs())

        def new(self, *shape, dtype=torch.float32):
            return torch.full(shape, torch.nan, dtype=dtype, device=self.device)

    with patch.object(triton_body, 'Plan', Plan), \
            patch.object(triton_plan, 'count_slabs', lambda *args: case.slabs), \
            patch.object(triton_plan, 'count_segments', lambda *args: case.segments), \
            patch.dict(triton_plan.PARTS, {torch.float16: case.parts}):
        yield triton_body


def inputs_of(case, dtype, device):
    """q, k, v in dtype; gates, one per direction, and initial states in float32."""
    length, scans = case.height * case.width, len(case.directions)
    batches = [make_inputs(1, length, case.heads, case.q_dim, case.v_dim, case.regimes, torch.float32, seed)
               for seed in range(case.seed, case.seed + scans + 1)]
    q, k, v = (x.to(device, dtype) for x in batches[0][:3])
    log_decay, step_size, state = (torch.stack([batch[i] for batch in batches[1:]]).to(device) for i in (3, 4, 5))
    if case.forgets:
        log_decay[:, :, [0, 15, 16, 40]] = -torch.inf
    return [q, k, v, log_decay, step_size, state if case.initial else None]


def weights_of(case, v, k, device):
    """Of the output and of the last state, in the loss."""
    generator = torch.Generator().manual_seed(1)
    d_o = torch.randn(v.shape, generator=generator).to(device, v.dtype)
    d_state = torch.randn(len(case.directions), len(v), case.heads, case.v_dim, case.q_dim, generator=generator)
    weights = [weight * case.scale for weight in (d_o, d_state.to(device))]
    return [weight if used else None for weight, used in zip(weights, case.uses)]


def run(body, case, inputs, weights):
    """RESULTS of a body; without the gradients where the case has none."""
    options = case.height, case.width, list(case.directions), 16
    o, last, states = body.forward(*inputs, *options, case.gradients)
    results = [o, last]
    if case.gradients:
        results += body.backward(*inputs[:5], states, *options, *weights)
    return results


def definition(case, inputs, weights):
    """RESULTS in float64; None for what no gradient reaches."""
    inputs = [None if x is None else x.double().requires_grad_(case.gradients) for x in inputs]
    outputs = run_scans(*inputs, case.height, case.width, case.directions, None, 'recurrent')
    if not case.gradients:
        return outputs
    used = [(x, weight.double()) for x, weight in zip(outputs, weights) if weight is not None]
    results, weights = zip(*used)
    return [*outputs, *torch.autograd.grad(results, [x for x in inputs if x is not None], weights, allow_unused=True)]


def measure(case, dtype, device):
    """name of result -> (error, error of the chunked body in the same dtype)."""
    inputs = inputs_of(case, dtype, device)
    weights = weights_of(case, inputs[2], inputs[1], device)
    truth = definition(case, inputs, weights)
    plain = run(chunked_body, case, inputs, weights)
    with rigged(case) as body:
        results = run(body, case, inputs, weights)
        again = run(body, case, inputs, weights) if case.repeat or device == 'cuda' else results
    report = {'same bits again': all(torch.equal(x, y) for x, y in zip(results, again))}
    for name, x, y, z in zip(RESULTS, results, plain, truth):
        if z is not None:
            # Tokens are (B, L, H, channels); gates and states have the scans before their samples.
            samples = 0 if name in ('o', 'd_q', 'd_k', 'd_v') else 1
            x, y, z = (tensor.movedim(samples, 0) for tensor in (x, y, z))
            report[name] = relative_error(x, z), relative_error(y, z)
    return report


def changed_by_strides(device):
    """RESULTS in which inputs cut from larger tensors, or with channels that are no neighbours, change a bit."""
    case = Case(height=5, width=7, directions=(1, 2))
    inputs = inputs_of(case, torch.float32, device)
    weights = weights_of(case, inputs[2], inputs[1], device)
    packed = torch.cat([*inputs[:3], weights[0]], -1)
    turned = [x.transpose(0, -1).contiguous().transpose(0, -1) for x in (*inputs, *weights)]
    # Both gates from one tensor, shared by both directions.
    gates = torch.stack([x[:1] for x in inputs[3:5]], -1).expand(2, -1, -1, -1, -1)
    with rigged(case) as body:
        def differing(inputs, weights, expected):
            results = run(body, case, inputs, weights)
            return [name for name, x, y in zip(RESULTS, results, expected) if not torch.equal(x, y)]

        expected = run(body, case, inputs, weights)
        q, k, v, d_o = packed.split(16, -1)
        found = differing([q, k, v, *inputs[3:]], [d_o, weights[1]], expected)
        found += differing(turned[:6], turned[6:], expected)
        gates = list(gates.unbind(-1))
        dense = [gate.contiguous() for gate in gates]
        expected = run(body, case, [*inputs[:3], *dense, inputs[5]], weights)
        return found + differing([*inputs[:3], *gates, inputs[5]], weights, expected)


def public_face(device):
    """The errors of an image's output and gradients, asked for as users do, each beside that of the chunked body."""
    def results(tensors, backend):
        tensors = [x.detach().requires_grad_() for x in tensors]
        o = state_evolution_2d(*tensors, 5, 7, directions=('upward', 'backward'), backend=backend)
        return o, *torch.autograd.grad(o.square().sum(), tensors)

    tensors = [x.to(device) for x in make_inputs(2, 35, 1, 8, 8, dtype=torch.float32)[:5]]
    truth = results([x.double() for x in tensors], 'recurrent')
    plain = results(tensors, 'chunked')
    return [(relative_error(x, z), relative_error(y, z)) for x, y, z in zip(results(tensors, 'triton'), plain, truth)]


def in_torch():
    """What the interpreter can tell of the operator as PyTorch sees it: raises what opcheck finds."""
    for with_state in (False, True):
        check_operator('triton', with_state, dtype=torch.float32)
    block, x = block_and_input('triton')
    again = checkpoint(block, x, use_reentrant=False)
    assert_all_equal(parameter_gradients(block, again), parameter_gradients(block, block(x)))
    return compiled_differs('triton', 'aot_eager')


def main(path):
    torch.set_num_threads(1)
    reports = {f'{name}, {str(dtype)[6:]}': measure(case, dtype, 'cpu')
               for name, case in CASES.items() for dtype in (torch.float32, torch.float16)}
    reports.update({'changed by strides': changed_by_strides('cpu'), 'public face': public_face('cpu'),
                    'compiled differs': in_torch()})
    Path(path).write_text(json.dumps(reports))


if __name__ == '__main__':
    main(*sys.argv[1:])
