"""Diffusion of the prior: a vector, so that a step costs one MLP (Eq. 1 and 2, after DiffIR)."""
import torch
from torch import nn

# beta_1 and beta_T of Eq. 1, linear in between (DiffIR's is linear in sqrt(beta)).
BETA_START, BETA_END = 0.1, 0.99
DEPTH = 7    # residual layers of the denoiser


class Denoiser(nn.Module):
    """Residual MLP that predicts the clean prior from the noisy one, the step and the condition.

    Args:
        prior_dim (int): Width of the prior.
        depth (int): Residual layers, each of two linear maps with 2 * prior_dim channels between.
    """

    def __init__(self, prior_dim, depth):
        super().__init__()
        self.enter = nn.Linear(2 * prior_dim + 1, prior_dim)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.LeakyReLU(0.1), nn.Linear(prior_dim, 2 * prior_dim), nn.LeakyReLU(0.1),
                          nn.Linear(2 * prior_dim, prior_dim)) for _ in range(depth))
        self.leave = nn.Linear(prior_dim, prior_dim)
        self.activation = nn.LeakyReLU(0.1)

    def forward(self, noisy, time, condition):
        """noisy, condition (B, prior_dim); time in (0, 1] -> clean prior (B, prior_dim)."""
        x = self.enter(torch.cat([noisy, noisy.new_full((len(noisy), 1), time), condition], dim=1))
        for layer in self.layers:
            x = x + layer(x)
        return self.leave(self.activation(x))


class PriorDiffusion(nn.Module):
    """Noise schedule, denoiser and reverse chain.

    Args:
        prior_dim (int): Width of the prior.
        steps (int): T, 4 to 20 (the paper's "5-20 steps", DiffIR's 4).
        seed (int): Seed of the noise that inference starts from: the same image gives the same result, alone or in a
            batch and on every device.
    """

    def __init__(self, prior_dim=256, steps=5, seed=0):
        super().__init__()
        if not 4 <= steps <= 20:
            raise ValueError(f'steps must be within 4..20, got {steps}')
        self.prior_dim, self.steps = prior_dim, steps
        self.denoiser = Denoiser(prior_dim, DEPTH)
        # alpha_bar[t] = prod_{s<=t} (1 - beta_s), with alpha_bar[0] = 1: the clean prior.
        beta = torch.linspace(BETA_START, BETA_END, steps, dtype=torch.float64, device='cpu')
        self.alpha_bar = [1.0, *torch.cumprod(1 - beta, 0).tolist()]
        self.seed = seed
        self.register_buffer('start', self.seeded_noise(), persistent=False)

    def seeded_noise(self):
        """(1, prior_dim), float32 on the CPU whatever the defaults: the same numbers on every device."""
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randn(1, self.prior_dim, generator=generator, dtype=torch.float32, device='cpu')

    def _apply(self, fn, recurse=True):
        """As nn.Module's; no checkpoint has the noise, so that after to_empty() nothing else would bring it back."""
        super()._apply(fn, recurse)
        self.start = self.seeded_noise().to(self.start)
        return self

    def diffuse(self, prior, noise):
        """Eq. 1 over all T steps at once: clean prior and unit noise (B, prior_dim) -> x_T (B, prior_dim)."""
        alpha_bar = self.alpha_bar[-1]
        return alpha_bar**0.5 * prior + (1 - alpha_bar)**0.5 * noise

    def forward(self, condition, noise=None, steps=None):
        """The reverse chain of Eq. 2 from x_T to the prior, with gradients through all of it.

        Args:
            condition (Tensor): (B, prior_dim), what the condition encoder sees in the LQ.
            noise (Tensor | None): x_T (B, prior_dim); None starts from the seeded noise.
            steps (int | None): 1..T denoising steps. All T (None) take the mean of the posterior without added noise;
                fewer are spread over 1..T and take DDIM's deterministic step (Song et al. 2021, eta = 0).

        Returns:
            Tensor: Prior (B, prior_dim).
        """
        steps = self.steps if steps is None else steps
        if not 1 <= steps <= self.steps:
            raise ValueError(f'steps must be within 1..{self.steps}, what the denoiser was trained for, got {steps}')
        if noise is None:
            # Of a network that was built on the default device, such as CUDA, the noise is on the CPU yet.
            x = self.start.to(condition).expand_as(condition)
        elif noise.shape == condition.shape:
            x = noise.to(condition.dtype)
        else:
            raise ValueError(f'noise must be {tuple(condition.shape)}, got {tuple(noise.shape)}')
        times = [self.steps - round(i * self.steps / steps) for i in range(steps)] + [0]
        move = self.posterior_mean if steps == self.steps else self.ddim
        for now, then in zip(times, times[1:]):
            clean = self.denoiser(x, now / self.steps, condition)
            x = move(x, clean, now, then)
        return x

    def posterior_mean(self, x, clean, now, then):
        """Mean of q(x_{t-1} | x_t, x_0) (Ho et al. 2020, Eq. 7)."""
        past, present = self.alpha_bar[then], self.alpha_bar[now]
        alpha = present / past
        return (past**0.5 * (1 - alpha) * clean + alpha**0.5 * (1 - past) * x) / (1 - present)

    def ddim(self, x, clean, now, then):
        past, present = self.alpha_bar[then], self.alpha_bar[now]
        noise = (x - present**0.5 * clean) / (1 - present)**0.5
        return past**0.5 * clean + (1 - past)**0.5 * noise
