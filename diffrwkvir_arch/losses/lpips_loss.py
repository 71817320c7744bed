"""LPIPS (Zhang et al. 2018) as a perceptual loss."""
import torch
from basicsr.utils.registry import LOSS_REGISTRY
from torch import nn

from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.lpips_network import build_lpips, check_backbone, find_backbone


@LOSS_REGISTRY.register()
class LPIPSLoss(nn.Module):
    """Distance of deep features, weighted to agree with human judgement, for train.perceptual_opt.

    Computed in float32 under autocast too: bf16, which tells neighbouring features apart badly, changes its gradient by
    a tenth and more.

    Args:
        net (str): 'alex', 'vgg' or 'squeeze'; the package's authors train with vgg and measure with alex.
        loss_weight (float): Factor on the loss.
        weights (str | None): torchvision's ImageNet weights of that net; None looks in torch.hub's cache.

    Raises:
        InputError: Another net, or no weights where they should be; the message says what to put where.
    """

    def __init__(self, net, loss_weight=1.0, weights=None):
        super().__init__()
        path, self.smallest = find_backbone(net, weights)
        self.network = build_lpips(net, path)
        self.loss_weight = loss_weight

    @staticmethod
    def check_options(path, section):
        """Refuses another net and missing weights."""
        check_backbone(path, section['net'], section.get('weights'))

    def forward(self, x, gt):
        """x, gt (B, 3, H, W), RGB in [0, 1] -> scalar and None: BasicSR's perceptual losses come with one of style."""
        if min(x.shape[-2:]) < self.smallest:
            raise InputError(f'LPIPSLoss needs patches of at least {self.smallest} pixels on each side, got '
                             f'{x.shape[-2]}x{x.shape[-1]}: raise datasets.train.gt_size')
        with torch.autocast(x.device.type, enabled=False):
            return self.loss_weight * self.network(x.float(), gt.float(), normalize=True).mean(), None
