"""Distillation losses against their definitions, and their place in BasicSR's registry."""
import diffrwkvir_arch  # noqa: F401
import pytest
import torch
from basicsr.losses import build_loss


def test_kd_l1_is_the_mean_absolute_difference_times_its_weight():
    loss = build_loss({'type': 'KDL1Loss', 'loss_weight': 2.0})
    assert loss(torch.tensor([[1., 2.]]), torch.tensor([[0., 4.]])).item() == pytest.approx(3.0)


def test_kd_is_the_kl_divergence_of_tempered_softmaxes():
    torch.manual_seed(0)
    prior, target, temperature = torch.randn(3, 5), torch.randn(3, 5), 0.5
    p, q = (torch.softmax(x / temperature, 1) for x in (prior, target))
    expected = (q * (q / p).log()).sum(1).mean()
    torch.testing.assert_close(build_loss({'type': 'KDLoss', 'temperature': temperature})(prior, target), expected)
    assert build_loss({'type': 'KDLoss'})(prior, prior + 3).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize('kind', ['KDL1Loss', 'KDLoss'])
def test_only_the_student_receives_a_gradient(kind):
    prior, target = torch.randn(2, 4, requires_grad=True), torch.randn(2, 4, requires_grad=True)
    build_loss({'type': kind})(prior, target).backward()
    assert prior.grad.abs().max() > 0 and target.grad is None


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(ValueError, match='temperature'):
        build_loss({'type': 'KDLoss', 'temperature': 0})
