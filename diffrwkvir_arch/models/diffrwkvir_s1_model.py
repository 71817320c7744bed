"""Stage 1: prior encoder(LQ, GT) and restorer learn together (Fig. 2)."""
from basicsr.utils.registry import MODEL_REGISTRY

from diffrwkvir_arch.errors import InputError

from .restoration_model import RestorationModel


@MODEL_REGISTRY.register()
class DiffRWKVIRS1Model(RestorationModel):
    """Trains DiffRWKVIRS1 with the losses of SRModel. It reads its prior from the GT, so it cannot do without one."""

    def feed_data(self, data):
        if 'gt' not in data:
            raise InputError(f'{self.opt["network_g"]["type"]} reads its prior from LQ and GT, and this dataset has no '
                             'GT: use type PairedImageDataset with dataroot_gt, or test stage 2, which needs the LQ '
                             'alone')
        super().feed_data(data)

    def restore(self, net, composite=True):
        return net(self.lq, self.gt, **self.mask_arguments(composite))

    def extract_prior(self, net):
        return net.extract_prior(self.lq, self.gt, *(() if self.mask is None else (self.mask, )))
