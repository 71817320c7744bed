"""RestorationModel: BasicSR's SRModel for any single network, and the frame in which both stages train and test."""
import math
import os
from collections import OrderedDict
from contextlib import nullcontext

import torch
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DataParallel, DistributedDataParallel

from diffrwkvir_arch.archs.hole_filling import keep_known
from diffrwkvir_arch.errors import InputError, did_you_mean
from diffrwkvir_arch.option_sections import as_count
from diffrwkvir_arch.values import check_flag, is_number

from .inference import Inference, refuse_other_channels, telling_channels
from .validation import Validation

AMP_DTYPES = {None: None, 'bf16': torch.bfloat16}
MICRO_BATCH = 'micro_batch_size_per_gpu'


@MODEL_REGISTRY.register()
class RestorationModel(Validation, Inference, SRModel):
    """Trains, validates and tests network_g on LQ/GT pairs, and tests it on LQ images alone.

    Beyond SRModel: stops at a loss or gradient that is not finite, clips gradients (train.clip_grad_norm), trains under
    bf16 autocast (train.amp: bf16), compiles the network (train.compile: true, torch.compile), takes batches in parts
    where memory is short (train.micro_batch_size_per_gpu; the step is that of the whole batch), keeps parts of the
    network as they were loaded (train.freeze, names of modules or parameters of network_g), pads for networks with
    windows (network_g.window_size, as SwinIR needs), restores large images in tiles and with self-ensemble (val.tile,
    val.self_ensemble), leaves out metrics that need a GT where there is none. A stage overrides `restore`, and
    `compute_losses` where it has more of them.

    Inpaints where the dataset has masks: hands them to the network and to metrics of the hole, and trains with the
    pixel loss averaged over each image, where a known pixel counts train.known_weight (default 1), one of the hole 1.
    The pixel loss sees the network's own output, the perceptual loss the composite, whose known pixels are the LQ's.
    """

    known_options = {'train': {'clip_grad_norm', 'amp', 'compile', 'known_weight', 'freeze', MICRO_BATCH},
                     'val': {'tile', 'tile_overlap', 'self_ensemble', 'save_best'}}

    @staticmethod
    def check_options(opt):
        """Refuses values of its own options that cannot work, before anything is written."""
        Inference.check_options(opt)
        if not opt['is_train']:
            return
        Validation.check_options(opt)
        train = opt['train']
        amp = train.get('amp')
        if amp not in AMP_DTYPES:
            raise InputError(f'train.amp must be one of {", ".join(map(str, AMP_DTYPES))}, got {amp!r}')
        for key in ('clip_grad_norm', 'known_weight'):
            value = train.get(key)
            if value is not None and (not is_number(value) or value < 0):
                raise InputError(f'train.{key} must be a number of at least 0, got {value!r}')
        check_flag('train.compile', train.get('compile'))
        if train.get('freeze') is not None:
            options = dict(opt['network_g'])
            with torch.random.fork_rng(devices=[]):
                freeze(ARCH_REGISTRY.get(options.pop('type'))(**options), train['freeze'])
        if train.get(MICRO_BATCH) is not None:
            as_count(train, 'train', MICRO_BATCH)
            refuse_sums(train)
        if not train.get('pixel_opt') and not train.get('perceptual_opt'):
            raise InputError('train.pixel_opt is missing, such as pixel_opt: {type: L1Loss, loss_weight: 1.0}')

    def init_training_settings(self):
        RestorationModel.check_options(self.opt)
        train = self.opt['train']
        self.amp_dtype = AMP_DTYPES[train.get('amp')]
        self.max_grad_norm = float(train.get('clip_grad_norm') or 'inf')
        self.known_weight = 1. if train.get('known_weight') is None else float(train['known_weight'])
        super().init_training_settings()
        if train.get('compile'):
            # In its place: checkpoints, wrappers and the EMA see the network that they know.
            self.get_bare_model(self.net_g).compile()

    def model_to_device(self, net):
        # Before a wrapper of several processes is told which gradients to wait for.
        if self.is_train and net is self.net_g and self.opt['train'].get('freeze') is not None:
            freeze(net, self.opt['train']['freeze'])
        return super().model_to_device(net)

    def setup_optimizers(self):
        # SRModel logs a line for every weight that learns nothing, hundreds of them.
        learning = [weight for weight in self.net_g.parameters() if weight.requires_grad]
        kept = sum(weight.numel() for weight in self.net_g.parameters() if not weight.requires_grad)
        if kept:
            get_root_logger().info(f'{kept:,d} parameters of network_g stay as they are, '
                                   f'{sum(weight.numel() for weight in learning):,d} learn')
        options = self.opt['train']['optim_g']
        self.optimizer_g = self.get_optimizer(options.pop('type'), learning, **options)
        self.optimizers.append(self.optimizer_g)

    def feed_data(self, data):
        # The last image's, or the last batch's, must not serve as that of an image without.
        self.__dict__.pop('gt', None)
        # From pinned memory without waiting for what the GPU has still to do.
        data = {**data, **{name: data[name].to(self.device, non_blocking=True)
                           for name in ('lq', 'gt', 'mask') if name in data}}
        super().feed_data(data)
        self.mask = data.get('mask')
        arch = self.opt['network_g']['type']
        needs_mask = getattr(self.get_bare_model(self.net_g), 'needs_mask', False)
        if needs_mask and self.mask is None:
            raise InputError(f'{arch} with in_channels: {self.opt["network_g"].get("in_channels")} inpaints, and this '
                             'dataset has no masks: use type InpaintingDataset')
        if self.mask is not None and not needs_mask:
            channels = self.lq.shape[1]
            raise InputError(f'{arch} as network_g describes it takes no mask, and this dataset has masks: use '
                             f'DiffRWKVIRS1 or DiffRWKVIRS2 with in_channels: {channels + 1}, out_channels: {channels} '
                             'at scale: 1')

    def mask_arguments(self, composite):
        """What a network that inpaints is handed beside its images; nothing for others."""
        return {} if self.mask is None else {'mask': self.mask, 'composite': composite}

    def restore(self, net, composite=True):
        """One call of the network, on self.lq (B, C, h, w) -> (B, C, scale*h, scale*w).

        composite: Whether an inpainted image keeps its known pixels; the loss on them looks at the network's own.
        """
        return net(self.lq, **self.mask_arguments(composite))

    def compute_losses(self):
        """Runs the network through its wrapper; sets self.output; -> OrderedDict of named scalar losses."""
        self.output = self.restore(self.net_g, composite=False)
        return self.image_losses()

    def composite(self):
        """self.output in float32; of an inpainted image what users get, with the known pixels of the LQ."""
        return keep_known(self.output.float(), self.lq, self.mask)

    def pixel_weights(self):
        """(B, 1, H, W) weights of the pixel loss, of mean 1 in every image.

        The loss divides by the sum of those it is handed: thus images count alike in every batch, part and process. An
        image without a hole, whose weights may all be 0, is learnt as a whole.
        """
        weight = self.known_weight + (1 - self.known_weight) * self.mask
        mean = weight.mean((1, 2, 3), keepdim=True)
        return torch.where(mean > 0, weight / mean, 1.)

    def image_losses(self):
        """Pixel loss between self.output and self.gt, perceptual loss between the composite and self.gt."""
        losses = OrderedDict()
        refuse_other_channels(self.output, self.gt)
        output = self.output.float()
        if self.cri_pix and self.mask is None:
            losses['l_pix'] = self.cri_pix(output, self.gt)
        elif self.cri_pix:
            losses['l_pix'] = self.cri_pix(output, self.gt, weight=self.pixel_weights())
        if self.cri_perceptual:
            perceptual, style = self.cri_perceptual(self.composite(), self.gt)
            if perceptual is not None:
                losses['l_percep'] = perceptual
            if style is not None:
                losses['l_style'] = style
        return losses

    def autocast(self):
        """The context in which networks run in training, by train.amp."""
        return torch.autocast(self.device.type, self.amp_dtype, enabled=self.amp_dtype is not None)

    def optimize_parameters(self, current_iter):
        self.optimizer_g.zero_grad()
        self.log_dict = self.step('g', self.accumulate_gradients(), current_iter)
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)

    def accumulate_gradients(self):
        """Adds the gradients of the batch to those of net_g, micro-batch by micro-batch; -> its losses, as scalars."""
        batch = len(self.lq)
        # Of several GPUs of one process, each gets its own.
        gpus = self.opt['num_gpu'] if isinstance(self.net_g, DataParallel) else 1
        size = gpus * (self.opt['train'].get(MICRO_BATCH) or batch)
        parts = list(zip(*(batch * [None] if x is None else x.split(size) for x in (self.lq, self.gt, self.mask))))
        totals = OrderedDict()
        for number, part in enumerate(parts, start=1):
            share = len(part[0]) / batch
            # Processes exchange gradients once a step.
            waits = number < len(parts) and isinstance(self.net_g, DistributedDataParallel)
            with self.holding(*part), self.net_g.no_sync() if waits else nullcontext():
                with self.autocast(), telling_channels(self.lq):
                    losses = self.compute_losses()
                (share * sum(losses.values())).backward()
            for name, loss in losses.items():
                totals[name] = totals.get(name, 0) + share * loss.detach()
        return totals

    def step(self, label, losses, current_iter):
        """One step of net_{label} down the gradients that it has; none where they or one of `losses` are not finite.

        Returns:
            dict of str to float: The losses.
        """
        net, optimizer = getattr(self, f'net_{label}'), getattr(self, f'optimizer_{label}')
        # The norm is what tells a bad gradient before it reaches the weights.
        norm = torch.nn.utils.clip_grad_norm_(net.parameters(), self.max_grad_norm)
        values = self.reduce_loss_dict({**losses, 'gradient norm': norm})
        self.refuse_non_finite(values, label, current_iter)
        optimizer.step()
        return {name: values[name] for name in losses}

    def reduce_loss_dict(self, loss_dict):
        """Scalars by name -> float by name: the mean over all processes, the same on each, so that all go on or stop.

        All are read at once, as reading waits for the GPU; SRModel waits for each.
        """
        values = torch.stack([value.detach() for value in loss_dict.values()])
        if self.opt['dist']:
            torch.distributed.all_reduce(values)
            values /= self.opt['world_size']
        return dict(zip(loss_dict, values.tolist()))

    def refuse_non_finite(self, values, label, current_iter):
        if all(map(math.isfinite, values.values())):
            return
        states = self.opt['path']['training_states']
        saved = os.path.isdir(states) and os.listdir(states)
        for name, value in values.items():
            if not math.isfinite(value):
                raise InputError(
                    f'{name} is {value} at iteration {current_iter}; training stops before the weights are '
                    f'spoilt. {f"The last good state is in {states}" if saved else "No state was saved before"}: lower '
                    f'train.optim_{label}.lr or set train.clip_grad_norm (1.0, say), look at the images, and '
                    f'{"go on with --auto_resume" if saved else "start again"}')


def freeze(net, names):
    """Keeps modules and parameters of these names as they are; InputError for a name that network_g does not have."""
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise InputError(f'train.freeze must be a list of names such as [conv_first, body.0], got {names!r}')
    known = {name for name, _ in (*net.named_modules(), *net.named_parameters()) if name}
    for name in names:
        if name not in known:
            raise InputError(f"train.freeze: network_g has no '{name}'{did_you_mean(name, known)}; it has "
                             f'{", ".join(dict(net.named_children()))}')
        for parameter_name, parameter in net.named_parameters():
            if f'{parameter_name}.'.startswith(f'{name}.'):
                parameter.requires_grad_(False)
        for module_name, module in net.named_modules():
            if f'{module_name}.'.startswith(f'{name}.') and isinstance(module, _BatchNorm):
                # Its averages learn too, wherever they are not used.
                module.eval().train = lambda mode=True, module=module: module
    if not any(parameter.requires_grad for parameter in net.parameters()):
        raise InputError(f'train.freeze: {names} leaves network_g nothing to learn')


def refuse_sums(train):
    """Raises InputError for a loss that is a sum: of micro-batches' sums the mean would be taken."""
    for key, section in train.items():
        if key.endswith('_opt') and isinstance(section, dict) and section.get('reduction') == 'sum':
            raise InputError(f'train.{key}.reduction: sum does not go with train.{MICRO_BATCH}, which takes the mean '
                             'over the parts of a batch; use reduction: mean')
