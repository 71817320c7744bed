"""DiffIR's diffusion of the prior: denoiser, schedule and reverse chain (Xia et al., ICCV 2023).

Module and buffer names are those of the official code (github.com/Zj-BinXia/DiffIR, DiffIR-SRGAN), so that its
checkpoints load.
"""
import torch
from torch import nn

from .diffir_prior_encoder import activation
from .diffir_restorer import PRIOR_DIM


class DenoiserLayer(nn.Module):
    """Linear - leaky ReLU; a residual only in its official name."""

    def __init__(self):
        super().__init__()
        self.resmlp = nn.Sequential(nn.Linear(PRIOR_DIM, PRIOR_DIM), activation())

    def forward(self, x):
        return self.resmlp(x)


class Denoiser(nn.Module):
    """MLP that predicts the clean prior from the noisy one, the step and the condition.

    Args:
        n_denoise_res (int): Layers after the first.
        timesteps (int): Diffusion steps T.
    """

    def __init__(self, n_denoise_res, timesteps):
        super().__init__()
        self.max_period = 10 * timesteps
        self.resmlp = nn.Sequential(
            nn.Linear(2 * PRIOR_DIM + 1, PRIOR_DIM), activation(), *(DenoiserLayer() for _ in range(n_denoise_res)))

    def forward(self, noisy, step, condition):
        """noisy, condition (B, 256); step 0 .. T-1, 0 next to the clean prior -> clean prior (B, 256)."""
        time = noisy.new_full((len(noisy), 1), step / self.max_period)
        return self.resmlp(torch.cat([condition, time, noisy], dim=1))


class DDPM(nn.Module):
    """Noise schedule and reverse chain; as in the official code it holds denoiser and condition encoder too.

    Of the twelve buffers only four are read; checkpoints hold all of them.

    Args:
        denoise (Denoiser), condition (CPEN): The network's own; the state dict names them a second time.
        timesteps (int): T >= 1; DiffIR's 4.
        linear_start, linear_end (float): beta_1 and beta_T. Between them sqrt(beta) is linear, not beta: what the
            official code calls its linear schedule.
    """

    def __init__(self, denoise, condition, timesteps, linear_start, linear_end):
        super().__init__()
        if timesteps < 1:
            raise ValueError(f'timesteps must be at least 1, got {timesteps}')
        if not 0 < linear_start <= linear_end < 1:
            raise ValueError(f'0 < linear_start <= linear_end < 1 must hold, got {linear_start} and {linear_end}')
        self.timesteps = timesteps
        self.model, self.condition = denoise, condition
        betas = torch.linspace(linear_start**0.5, linear_end**0.5, timesteps, dtype=torch.float64)**2
        alpha_bar = torch.cumprod(1 - betas, 0)
        previous = torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])
        variance = betas * (1 - previous) / (1 - alpha_bar)
        schedule = {
            'betas': betas,
            'alphas_cumprod': alpha_bar,
            'alphas_cumprod_prev': previous,
            'sqrt_alphas_cumprod': alpha_bar.sqrt(),
            'sqrt_one_minus_alphas_cumprod': (1 - alpha_bar).sqrt(),
            'log_one_minus_alphas_cumprod': (1 - alpha_bar).log(),
            'sqrt_recip_alphas_cumprod': (1 / alpha_bar).sqrt(),
            'sqrt_recipm1_alphas_cumprod': (1 / alpha_bar - 1).sqrt(),
            'posterior_variance': variance,
            'posterior_log_variance_clipped': variance.clamp(min=1e-20).log(),
            'posterior_mean_coef1': betas * previous.sqrt() / (1 - alpha_bar),
            'posterior_mean_coef2': (1 - previous) * (1 - betas).sqrt() / (1 - alpha_bar),
        }
        for name, values in schedule.items():
            self.register_buffer(name, values.float())

    def diffuse(self, prior, noise):
        """All T steps at once: clean prior and unit noise (B, 256) -> x_T (B, 256)."""
        return self.sqrt_alphas_cumprod[-1] * prior + self.sqrt_one_minus_alphas_cumprod[-1] * noise

    def forward(self, lq, noise=None):
        """The reverse chain from x_T to the prior: means of the posterior, no noise added, gradients through all of it.

        Args:
            lq (Tensor): (B, C, h, w) in [0, 1].
            noise (Tensor | None): x_T (B, 256); None draws it anew from torch's generator, as the official code does,
                so that two calls differ unless torch.manual_seed comes before each.

        Returns:
            Tensor: Prior (B, 256).
        """
        condition = self.condition(lq)
        if noise is None:
            noise = torch.randn_like(condition)
        elif noise.shape != condition.shape:
            raise ValueError(f'noise must be {tuple(condition.shape)}, got {tuple(noise.shape)}')
        x = noise.to(condition.dtype)
        for step in reversed(range(self.timesteps)):
            clean = self.model(x, step, condition)
            x = self.posterior_mean_coef1[step] * clean + self.posterior_mean_coef2[step] * x
        return x
