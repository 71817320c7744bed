"""FLOPs against counts by hand, peak memory against known blocks."""
import pytest
import torch
import torch.nn.functional as F
from basicsr.utils.registry import ARCH_REGISTRY
from state_evolution import state_evolution_2d
from torch import nn
from two_stage_cases import NETWORK

from diffrwkvir_arch.tools.call_cost import peak_extra_bytes
from diffrwkvir_arch.tools.complexity import complexity, within

CPU = torch.device('cpu')


@torch.library.custom_op('profile_test::twice', mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    scratch = x.new_zeros(2 ** 18)
    return 2 * x + scratch[0]


class Calls(nn.Module):
    """A network of no more than a function."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, lq):
        return self.function(self, lq)


def call(function):
    return Calls(lambda net, x: function(x))


def test_a_convolution_and_a_linear_layer_count_as_by_hand():
    conv, image = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), torch.rand(5, 4, 8, 10)
    assert within(complexity(conv, (image, )).flops) == 2 * 5 * (4 * 5) * 6 * (4 // 2) * 9
    linear, tokens = nn.Linear(7, 11), torch.rand(2, 3, 7)
    assert within(complexity(linear, (tokens, )).flops) == 2 * (2 * 3) * 7 * 11


def test_attention_counts_its_two_products():
    tokens = torch.rand(2, 3, 5, 4)
    found = complexity(call(lambda x: F.scaled_dot_product_attention(x, x, x)), (tokens, ))
    assert within(found.flops) == 2 * (2 * 3) * 2 * (5 * 5 * 4) and not found.uncounted
    assert within(complexity(call(lambda x: (x @ x.mT).softmax(-1) @ x), (tokens, )).flops) == within(found.flops)


@pytest.mark.parametrize('backend', ['recurrent', 'chunked'])
def test_state_evolution_counts_three_products_of_the_state_whatever_computes_it(backend):
    gate = torch.zeros(2, 12, 3)

    def scan(x):
        return state_evolution_2d(x, x, x[..., :4], gate, gate, 3, 4, directions=('forward', 'upward'), backend=backend)

    found = complexity(call(scan), (torch.rand(2, 12, 3, 5), ))
    assert within(found.flops) == 2 * 3 * (5 * 4) * (2 * 12 * 3) * 2
    assert not found.uncounted


def test_flops_belong_to_the_innermost_module_and_to_all_around_it():
    inner = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 3, 1))
    net = Calls(lambda self, x: self.body(x) @ x, body=inner)
    found = complexity(net, (torch.rand(1, 3, 8, 8), ))
    layer, product = 2 * 64 * 12, 2 * 3 * 8 ** 3
    assert {path: count for path, count in found.flops.items() if count} == {
        'body.0': layer, 'body.2': layer, '': product}
    assert within(found.flops, 'body') == 2 * layer and within(found.flops) == 2 * layer + product
    assert sum(found.by_operator.values()) == within(found.flops)


def test_a_part_that_has_two_names_counts_once_in_parameters_and_as_often_as_it_runs_in_flops():
    layer = nn.Linear(8, 8, bias=False)
    found = complexity(Calls(lambda self, x: self.b(self.a(x)), a=layer, b=layer), (torch.rand(1, 8), ))
    assert found.parameters == {'a': 64} and within(found.flops, 'a') == within(found.flops) == 2 * 2 * 64


def test_operators_that_may_multiply_and_have_no_formula_are_named():
    found = complexity(call(lambda x: F.normalize(torch.mv(twice(x), x[0]), dim=0)), (torch.rand(4, 4), ))
    assert found.uncounted == {'profile_test.twice': 1, 'aten.mv': 1} and within(found.flops) == 0


def test_mmengine_counts_the_same_multiply_adds_of_products():
    analysis = pytest.importorskip('mmengine.analysis')
    net, lq = ARCH_REGISTRY.get('DiffRWKVIRS2')(**NETWORK).eval(), torch.rand(1, 3, 8, 8)
    analyzer = analysis.FlopAnalyzer(net, (lq, ))
    analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    counts = analyzer.by_operator()
    # mmengine counts norms too, FlopCounterMode does not.
    products = sum(counts[name] for name in ('conv', 'linear', 'matmul', 'bmm', 'einsum', 'numba', 'chunked'))
    assert 2 * products == within(complexity(net, (lq, )).flops)


def test_peak_memory_counts_what_is_alive_at_once():
    x = torch.rand(2 ** 16)
    with torch.no_grad():
        # Two blocks live while the second is made from the first, which is then dropped.
        assert peak_extra_bytes(lambda: x.exp().sin().cos(), CPU) == 2 * x.nbytes
        assert peak_extra_bytes(lambda: [x.exp(), x.sin(), x.cos()], CPU) == 3 * x.nbytes
        assert peak_extra_bytes(lambda: x.exp_(), CPU) == 0


def test_peak_memory_sees_into_custom_operators():
    assert 4 * 2 ** 18 <= peak_extra_bytes(lambda: twice(torch.ones(8)), CPU) < 4 * 2 ** 18 + 1024
