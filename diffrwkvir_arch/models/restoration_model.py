"""RestorationModel: BasicSR's SRModel for any single network, and the frame in which both stages train and test."""
from collections import OrderedDict

import torch
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import MODEL_REGISTRY

from diffrwkvir_arch.archs.tokens import pad_to_multiple
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.toolbox.images import needs_gt

AMP_DTYPES = {None: None, 'bf16': torch.bfloat16}


@MODEL_REGISTRY.register()
class RestorationModel(SRModel):
    """Trains, validates and tests network_g on LQ/GT pairs, and tests it on LQ images alone.

    Beyond SRModel: stops at a loss or gradient that is not finite, clips gradients (train.clip_grad_norm), trains under
    bf16 autocast (train.amp: bf16), pads for networks with windows (network_g.window_size, as SwinIR needs), leaves out
    metrics that need a GT where there is none. A stage overrides `restore`, and `compute_losses` where it has more of
    them.
    """

    known_options = {'train': {'clip_grad_norm', 'amp'}}

    def init_training_settings(self):
        amp = self.opt['train'].get('amp')
        if amp not in AMP_DTYPES:
            raise InputError(f'train.amp must be one of {", ".join(map(str, AMP_DTYPES))}, got {amp!r}')
        self.amp_dtype = AMP_DTYPES[amp]
        self.max_grad_norm = float(self.opt['train'].get('clip_grad_norm') or 'inf')
        super().init_training_settings()

    def restore(self, net):
        """One call of the network, on self.lq (B, C, h, w) -> (B, C, scale*h, scale*w)."""
        return net(self.lq)

    def compute_losses(self):
        """Runs the network through its wrapper; sets self.output; -> OrderedDict of named scalar losses."""
        self.output = self.restore(self.net_g)
        return self.image_losses()

    def image_losses(self):
        """Pixel and perceptual losses between self.output and self.gt."""
        losses = OrderedDict()
        output = self.output.float()
        if self.cri_pix:
            losses['l_pix'] = self.cri_pix(output, self.gt)
        if self.cri_perceptual:
            perceptual, style = self.cri_perceptual(output, self.gt)
            if perceptual is not None:
                losses['l_percep'] = perceptual
            if style is not None:
                losses['l_style'] = style
        return losses

    def optimize_parameters(self, current_iter):
        self.optimizer_g.zero_grad()
        with torch.autocast(self.device.type, self.amp_dtype, enabled=self.amp_dtype is not None):
            losses = self.compute_losses()
        sum(losses.values()).backward()
        # The norm is what tells a bad gradient before it reaches the weights.
        norm = torch.nn.utils.clip_grad_norm_(self.net_g.parameters(), self.max_grad_norm)
        self.refuse_non_finite({**losses, 'gradient norm': norm}, current_iter)
        self.optimizer_g.step()
        self.log_dict = self.reduce_loss_dict(losses)
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)

    def refuse_non_finite(self, values, current_iter):
        # Asked once for all: every answer waits for the device.
        if torch.isfinite(torch.stack([value.detach() for value in values.values()])).all():
            return
        for name, value in values.items():
            if not torch.isfinite(value):
                raise InputError(
                    f'{name} is {value.item()} at iteration {current_iter}; training stops before the weights are '
                    f'spoilt. The last good checkpoint is in {self.opt["path"]["models"]}: lower train.optim_g.lr or '
                    'set train.clip_grad_norm (1.0, say), look at the images, and go on with --auto_resume')

    def test(self):
        """Restores self.lq with the EMA weights where there are any; never through a DDP wrapper."""
        net = self.net_g_ema if hasattr(self, 'net_g_ema') else self.get_bare_model(self.net_g)
        training = net.training
        net.eval()
        with torch.no_grad():
            self.output = self.restore_padded(net)
        net.train(training)

    def restore_padded(self, net):
        """Restores an LQ padded to whole windows where the network has windows, and crops the result."""
        window = self.opt['network_g'].get('window_size')
        if not window or getattr(self.get_bare_model(net), 'pads_inside', False):
            return self.restore(net)
        lq, (height, width) = self.lq, self.lq.shape[-2:]
        self.lq = pad_to_multiple(lq, window)
        output = self.restore(net)
        self.lq = lq
        scale = self.opt.get('scale', 1)
        return output[..., :height * scale, :width * scale]

    def nondist_validation(self, dataloader, current_iter, tb_logger, save_img):
        val_opt = self.opt['val']
        metrics = val_opt.get('metrics')
        if metrics and dataloader.dataset.opt.get('dataroot_gt') is None:
            val_opt['metrics'] = {name: opt for name, opt in metrics.items() if not needs_gt(opt['type'])} or None
        try:
            super().nondist_validation(dataloader, current_iter, tb_logger, save_img)
        finally:
            val_opt['metrics'] = metrics
