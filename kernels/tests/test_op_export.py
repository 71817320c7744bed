"""What leaves PyTorch holds no operator of ours: torch.export, ONNX; and function transforms, for which `plain` is."""
import io
from functools import partial

import pytest
import torch
from op_cases import BODIES, make_inputs, relative_error
from torch import nn
from torch.autograd import forward_ad

from state_evolution import DIRECTIONS, state_evolution, state_evolution_2d


class Image(nn.Module):
    """A (5, 7) image in the given directions."""

    def __init__(self, directions=DIRECTIONS):
        super().__init__()
        self.directions = directions

    def forward(self, *tensors):
        return state_evolution_2d(*tensors, 5, 7, directions=self.directions)


class Sequence(nn.Module):
    def forward(self, *tensors):
        *tensors, state = tensors
        return state_evolution(*tensors, initial_state=state, return_state=True)


def calls(program):
    return {str(node.target) for node in program.graph.nodes if node.op == 'call_function'}


@pytest.mark.parametrize('strict', [False, True])
def test_an_exported_program_is_made_of_pytorchs_own_operators(strict):
    tensors = tuple(make_inputs(length=35)[:5])
    program = torch.export.export(Image(), tensors, strict=strict)
    assert all(call.startswith('aten.') or 'getitem' in call for call in calls(program)), calls(program)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    expected = state_evolution_2d(*tensors, 5, 7, backend='recurrent')
    assert relative_error(torch.export.load(file).module()(*tensors), expected) < 1e-12


def test_the_batch_of_an_exported_program_may_be_dynamic():
    tensors, others = (tuple(make_inputs(batch=batch, length=35)[:5]) for batch in (2, 5))
    batch = torch.export.Dim('batch')
    program = torch.export.export(Image(), tensors, dynamic_shapes=(tuple({0: batch} for _ in tensors), ))
    assert relative_error(program.module()(*others), Image()(*others)) < 1e-12


def test_autocast_stays_out_of_an_exported_program():
    tensors = tuple(make_inputs(length=35, dtype=torch.float32)[:5])
    expected = state_evolution_2d(*tensors, 5, 7)
    with torch.autocast('cpu', torch.bfloat16):
        program = torch.export.export(Image(), tensors)
        assert relative_error(program.module()(*tensors), expected) < 1e-5


@pytest.mark.parametrize('backend', BODIES)
def test_an_explicit_backend_is_kept_and_takes_any_size(backend):
    class Explicit(nn.Module):
        def forward(self, *tensors):
            height, width = tensors[0].shape[1:3]
            return state_evolution_2d(*(x.flatten(1, 2) for x in tensors), height, width, backend=backend)

    def images(batch, height, width):
        return tuple(x.unflatten(1, (height, width)) for x in make_inputs(batch=batch, length=height * width)[:5])

    sizes = {place: torch.export.Dim(name) for place, name in enumerate(('batch', 'height', 'width'))}
    program = torch.export.export(Explicit(), images(2, 5, 7), dynamic_shapes=((sizes, ) * 5, ))
    assert any('state_evolution' in call for call in calls(program))
    others = images(3, 11, 4)
    assert torch.equal(program.module()(*others), Explicit()(*others))


@pytest.mark.parametrize('network, tensors', [
    (Image(), make_inputs(length=35, q_dim=8, v_dim=8, dtype=torch.float32)[:5]),
    (Image(('upward', )), make_inputs(length=35, q_dim=8, v_dim=8, dtype=torch.float32)[:5]),
    (Sequence(), make_inputs(length=50, q_dim=8, v_dim=4, dtype=torch.float32)),
])
def test_onnx_runtime_finds_the_same(network, tensors, tmp_path):
    for package in ('onnx', 'onnxscript'):
        pytest.importorskip(package)
    runtime = pytest.importorskip('onnxruntime')
    torch.onnx.export(network.eval(), tuple(tensors), tmp_path / 'op.onnx', dynamo=True, optimize=False, verbose=False,
                      dynamic_shapes=(tuple({0: 'batch'} for _ in tensors), ))
    tensors = [torch.cat([x, x.flip(0)]) for x in tensors]
    session = runtime.InferenceSession(tmp_path / 'op.onnx', providers=['CPUExecutionProvider'])
    found = session.run(None, {put.name: x.numpy() for put, x in zip(session.get_inputs(), tensors)})
    expected = network(*tensors)
    for result, truth in zip(found, expected if isinstance(expected, tuple) else (expected, )):
        assert relative_error(torch.from_numpy(result), truth) < 1e-5


def test_auto_passes_through_function_transforms():
    q, *tensors = make_inputs(length=20)[:5]

    def total(backend, q):
        return state_evolution(q, *tensors, backend=backend).square().sum()

    for transform in (torch.func.grad, torch.func.jacfwd):
        assert relative_error(transform(partial(total, 'auto'))(q), transform(partial(total, 'plain'))(q)) < 1e-12


@pytest.mark.parametrize('backend', BODIES)
@pytest.mark.parametrize('transform', [torch.func.grad, torch.func.jacrev, torch.func.vmap])
def test_function_transforms_of_an_operator_are_refused(backend, transform):
    q, *tensors = [x.requires_grad_() for x in make_inputs(length=5)[:5]]
    with pytest.raises(NotImplementedError, match=f"'{backend}' of state_evolution does not go through torch.func"):
        transform(lambda q: state_evolution(q.expand_as(tensors[0]), *tensors, backend=backend).sum())(q)


@pytest.mark.parametrize('backend', BODIES)
def test_an_operator_is_not_taken_for_a_constant_in_forward_mode(backend):
    q, *tensors = make_inputs(length=5)[:5]
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="forward-mode derivative; 'plain' has"):
        state_evolution(forward_ad.make_dual(q, q), *tensors, backend=backend)


def test_function_transforms_pass_through_plain():
    tensors = make_inputs(batch=3, length=20)[:5]

    def plain(*tensors):
        return state_evolution(*tensors, backend='plain')

    one_by_one = torch.func.vmap(lambda *sample: plain(*(x[None] for x in sample))[0])(*tensors)
    assert relative_error(one_by_one, plain(*tensors)) < 1e-12

    tangents = [torch.randn_like(x) * 1e-6 for x in tensors]
    _, forward_mode = torch.func.jvp(plain, tuple(tensors), tuple(tangents))
    ahead, behind = ([x + sign * dx for x, dx in zip(tensors, tangents)] for sign in (1, -1))
    assert relative_error(forward_mode, (plain(*ahead) - plain(*behind)) / 2) < 1e-6
