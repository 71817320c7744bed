"""Distillation losses of stage 2: how far the diffused prior is from the one that stage 1 reads from LQ and GT."""
import torch.nn.functional as F
from basicsr.utils.registry import LOSS_REGISTRY
from torch import nn


@LOSS_REGISTRY.register()
class KDL1Loss(nn.Module):
    """Mean absolute difference of two priors.

    Args:
        loss_weight (float): Factor on the loss.
    """

    def __init__(self, loss_weight=1.0):
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, prior, target):
        """prior, target (B, prior_dim) -> scalar; no gradient reaches the target."""
        return self.loss_weight * F.l1_loss(prior, target.detach())


@LOSS_REGISTRY.register()
class KDLoss(nn.Module):
    """KL(softmax(target / temperature) || softmax(prior / temperature)), averaged over the batch.

    DiffIR's code computes it beside the L1 distance that it trains with.

    It compares the profile of the priors, not their level: adding a constant to one changes nothing.

    Args:
        loss_weight (float): Factor on the loss.
        temperature (float): > 0; the lower, the more the largest entries count.
    """

    def __init__(self, loss_weight=1.0, temperature=0.15):
        super().__init__()
        if temperature <= 0:
            raise ValueError(f'temperature must be above 0, got {temperature}')
        self.loss_weight, self.temperature = loss_weight, temperature

    def forward(self, prior, target):
        """prior, target (B, prior_dim) -> scalar; no gradient reaches the target."""
        log_p = F.log_softmax(prior / self.temperature, dim=1)
        log_q = F.log_softmax(target.detach() / self.temperature, dim=1)
        return self.loss_weight * F.kl_div(log_p, log_q, reduction='batchmean', log_target=True)
