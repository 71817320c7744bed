"""The four scans of an image visit the pixels they say, and are summed."""
import pytest
import torch
from op_cases import BACKENDS, BODIES, make_inputs, relative_error
from torch.autograd import gradcheck

from state_evolution import DIRECTIONS, state_evolution, state_evolution_2d

HEIGHT, WIDTH = 5, 7
PIXELS = {
    'forward': [(y, x) for y in range(HEIGHT) for x in range(WIDTH)],
    'backward': [(y, x) for y in reversed(range(HEIGHT)) for x in reversed(range(WIDTH))],
    'downward': [(y, x) for x in range(WIDTH) for y in range(HEIGHT)],
    'upward': [(y, x) for x in reversed(range(WIDTH)) for y in reversed(range(HEIGHT))],
}


def image_inputs(gates=None, **kwargs):
    """Without the state; with `gates` the two gates differ in each of that many directions."""
    *tensors, _ = make_inputs(length=HEIGHT * WIDTH, **kwargs)
    if gates:
        others = [make_inputs(length=HEIGHT * WIDTH, seed=1 + i, **kwargs) for i in range(gates)]
        tensors[3:] = [torch.stack([other[i] for other in others]) for i in (3, 4)]
    return tensors


def scan_by_hand(tensors, direction):
    order = torch.tensor([y * WIDTH + x for y, x in PIXELS[direction]])
    o = state_evolution(*(x[:, order] for x in tensors), backend='recurrent')
    result = torch.empty_like(o)
    result[:, order] = o
    return result


def as_image(x):
    return x.unflatten(1, (HEIGHT, WIDTH))


def test_directions_are_the_four_documented_ones():
    assert DIRECTIONS == ('forward', 'backward', 'downward', 'upward')


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('direction', DIRECTIONS)
def test_each_direction_is_the_recurrence_along_its_pixels(backend, direction):
    tensors = image_inputs()
    o = state_evolution_2d(*tensors, HEIGHT, WIDTH, directions=(direction,), backend=backend)
    assert torch.allclose(o, scan_by_hand(tensors, direction), atol=1e-12)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('directions', [DIRECTIONS, ('upward', 'forward')])
def test_directions_are_summed(backend, directions):
    tensors = image_inputs()
    o = state_evolution_2d(*tensors, HEIGHT, WIDTH, directions=directions, backend=backend, chunk_size=4)
    assert torch.allclose(o, sum(scan_by_hand(tensors, d) for d in directions), atol=1e-12)


@pytest.mark.parametrize('backend', BACKENDS)
def test_gates_may_differ_by_direction_and_are_indexed_by_pixel(backend):
    q, k, v, log_decay, step_size = image_inputs(gates=3)
    directions = ('downward', 'backward', 'upward')
    o = state_evolution_2d(q, k, v, log_decay, step_size, HEIGHT, WIDTH, directions=directions, backend=backend)
    by_hand = sum(scan_by_hand((q, k, v, log_decay[i], step_size[i]), d) for i, d in enumerate(directions))
    assert torch.allclose(o, by_hand, atol=1e-12)


@pytest.mark.parametrize('one, other', [('forward', 'downward'), ('backward', 'upward')])
def test_transposing_the_image_swaps_rows_and_columns(one, other):
    tensors = image_inputs()
    transposed = [as_image(x).transpose(1, 2).flatten(1, 2) for x in tensors]
    o = state_evolution_2d(*tensors, HEIGHT, WIDTH, directions=(one,))
    o_transposed = state_evolution_2d(*transposed, WIDTH, HEIGHT, directions=(other,))
    assert torch.allclose(as_image(o).transpose(1, 2).flatten(1, 2), o_transposed, atol=1e-12)


@pytest.mark.parametrize('one, other', [('forward', 'backward'), ('downward', 'upward')])
def test_turning_the_image_by_half_swaps_there_and_back(one, other):
    tensors = image_inputs()
    o = state_evolution_2d(*tensors, HEIGHT, WIDTH, directions=(one,))
    turned = state_evolution_2d(*(x.flip(1) for x in tensors), HEIGHT, WIDTH, directions=(other,))
    assert torch.allclose(o.flip(1), turned, atol=1e-12)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('directions, gates', [(DIRECTIONS, None), (DIRECTIONS, 4), (('upward', 'backward'), 2)])
def test_gradients_match_finite_differences(backend, directions, gates):
    *tensors, _ = make_inputs(batch=1, length=6, heads=1, q_dim=2, v_dim=2)
    if gates:
        tensors[3:] = [x * torch.linspace(.5, 1, gates, dtype=x.dtype).view(-1, 1, 1, 1) for x in tensors[3:]]
    tensors = [x.detach().requires_grad_() for x in tensors]
    assert gradcheck(lambda *x: state_evolution_2d(*x, 2, 3, directions=directions, backend=backend, chunk_size=4),
                     tensors)


@pytest.mark.parametrize('backend', BODIES)
def test_float32_gradients_of_an_image_are_within_budget(backend):
    def gradients(tensors, backend):
        tensors = [x.detach().requires_grad_() for x in tensors]
        weight = torch.randn(tensors[2].shape, generator=torch.Generator().manual_seed(2))
        return torch.autograd.grad(state_evolution_2d(*tensors, HEIGHT, WIDTH, backend=backend), tensors,
                                   weight.to(tensors[2].dtype))

    tensors = image_inputs(gates=4, q_dim=16, v_dim=16)
    for grad, truth in zip(gradients([x.float() for x in tensors], backend), gradients(tensors, 'recurrent')):
        assert relative_error(grad, truth) < 5e-5


@pytest.mark.parametrize('height, width', [(1, 35), (35, 1)])
def test_a_line_of_pixels_is_read_alike_by_rows_and_columns(height, width):
    tensors = image_inputs()
    rows = state_evolution_2d(*tensors, height, width, directions=('forward', 'backward'))
    columns = state_evolution_2d(*tensors, height, width, directions=('downward', 'upward'))
    assert torch.allclose(rows, columns, atol=1e-12)
