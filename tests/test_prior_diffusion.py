"""The diffusion of the prior: Eq. 1 in closed form, the reverse chain, fewer steps."""
import pytest
import torch
from diffrwkvir_arch.archs.prior_diffusion import PriorDiffusion


class Oracle(torch.nn.Module):
    """A denoiser that knows the clean prior."""

    def __init__(self, clean):
        super().__init__()
        self.clean, self.times, self.seen = clean, [], []

    def forward(self, noisy, time, condition):
        self.times.append(time)
        self.seen.append(noisy)
        return self.clean


@pytest.mark.parametrize('steps', [4, 5, 20])
def test_diffusing_at_once_is_equation_1_step_by_step(steps):
    diffusion = PriorDiffusion(8, steps)
    # The variance of Eq. 1's chain, x <- sqrt(1 - beta) x + sqrt(beta) noise, and its factor on x_0.
    factor, variance = 1.0, 0.0
    for beta in torch.linspace(0.1, 0.99, steps).double():
        factor, variance = factor * (1 - beta)**0.5, (1 - beta) * variance + beta
    prior, noise = torch.randn(3, 8, dtype=torch.float64), torch.randn(3, 8, dtype=torch.float64)
    expected = factor * prior + variance**0.5 * noise
    torch.testing.assert_close(diffusion.diffuse(prior, noise), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize('steps', [None, 5, 4, 3, 2, 1])
def test_a_denoiser_that_knows_the_prior_leads_the_chain_to_it(steps):
    torch.manual_seed(0)
    diffusion, clean = PriorDiffusion(8), torch.randn(2, 8)
    diffusion.denoiser = Oracle(clean)
    torch.testing.assert_close(diffusion(torch.zeros(2, 8), steps=steps), clean)
    times = diffusion.denoiser.times
    assert len(times) == (steps or 5) and times[0] == 1 and times == sorted(set(times), reverse=True)


@pytest.mark.parametrize('steps', [2, 3, 4])
def test_fewer_steps_go_along_the_diffusion_of_one_noise(steps):
    torch.manual_seed(0)
    diffusion, clean, noise = PriorDiffusion(8), torch.randn(2, 8), torch.randn(2, 8)
    diffusion.denoiser = Oracle(clean)
    diffusion(torch.zeros(2, 8), diffusion.diffuse(clean, noise), steps)
    for time, noisy in zip(diffusion.denoiser.times, diffusion.denoiser.seen, strict=True):
        # Song et al. 2021, Eq. 12 with sigma = 0: x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise.
        alpha_bar = torch.cumprod(1 - torch.linspace(0.1, 0.99, 5), 0)[round(5 * time) - 1]
        torch.testing.assert_close(noisy, alpha_bar.sqrt() * clean + (1 - alpha_bar).sqrt() * noise)


def test_the_full_chain_takes_the_posterior_mean():
    torch.manual_seed(0)
    diffusion = PriorDiffusion(6, steps=4)
    condition, x = torch.randn(2, 6), torch.randn(2, 6)
    beta = torch.linspace(0.1, 0.99, 4).double()
    alpha_bar = torch.cat([torch.ones(1).double(), torch.cumprod(1 - beta, 0)])
    expected = x
    for t in (4, 3, 2, 1):
        clean = diffusion.denoiser(expected, t / 4, condition)
        # Ho et al. 2020, Eq. 7.
        a = alpha_bar[t - 1].sqrt() * beta[t - 1] / (1 - alpha_bar[t])
        b = (1 - beta[t - 1]).sqrt() * (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t])
        expected = a.float() * clean + b.float() * expected
    torch.testing.assert_close(diffusion(condition, noise=x), expected)


def test_gradients_flow_through_the_whole_chain():
    diffusion = PriorDiffusion(6)
    condition, noise = torch.randn(2, 6, requires_grad=True), torch.randn(2, 6, requires_grad=True)
    diffusion(condition, noise).sum().backward()
    assert condition.grad.abs().min() > 0 and noise.grad.abs().max() > 0


@pytest.mark.parametrize('steps', [0, 6])
def test_steps_that_were_not_trained_are_refused(steps):
    with pytest.raises(ValueError, match=r'1\.\.5'):
        PriorDiffusion(6)(torch.zeros(1, 6), steps=steps)


def test_noise_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r'noise must be \(1, 6\), got \(1, 5\)'):
        PriorDiffusion(6)(torch.zeros(1, 6), noise=torch.zeros(1, 5))
