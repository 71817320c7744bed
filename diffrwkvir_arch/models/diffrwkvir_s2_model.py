"""Stage 2: condition encoder, diffusion and restorer learn together; stage 1's encoder is the teacher (Fig. 3)."""
import inspect

import torch
from basicsr.archs import build_network
from basicsr.losses import build_loss
from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY

from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.option_checkpoints import refuse_missing
from diffrwkvir_arch.signatures import parameters_of

from .restoration_model import RestorationModel


@MODEL_REGISTRY.register()
class DiffRWKVIRS2Model(RestorationModel):
    """Trains DiffRWKVIRS2 with image losses and train.kd_opt, the distance of its prior to the teacher's.

    path.pretrain_network_s1 alone hands stage 1 over: its encoder becomes the teacher, frozen, in eval mode and outside
    net_g; its restorer is where net_g's restorer starts. The stage-1 network, registered under the name of network_g
    with S1 for S2, is built from the options of network_g.
    param_key_s1 chooses its weights ('params_ema', or 'params' where there is no EMA). At test time neither stage 1 nor
    a GT is needed.

    Trains pairs of your own, too: NAMES1 has restorer and encoder(lq, gt) -> (B, D), NAMES2 has a restorer of the same
    weights, diffusion.diffuse(prior, noise) -> (B, D), and forward(lq, noise=, return_prior=True) -> image and prior
    (B, D). Tiles share a prior where a network has extract_prior(lq) and restore(lq, prior).
    """

    known_options = {
        'train': {'kd_opt'},
        'path': {'pretrain_network_s1', 'param_key_s1'},
    }

    @staticmethod
    def check_options(opt):
        """Refuses to train what is no second stage, or without stage 1's checkpoint, before anything is written."""
        RestorationModel.check_options(opt)
        if not opt['is_train']:
            return
        arch = opt['network_g']['type']
        if not arch.endswith('S2') or stage1_of(arch) not in ARCH_REGISTRY:
            raise InputError(f'network_g.type: {arch} is no second stage, whose name ends in S2 and whose first '
                             'stage is registered under the same name with S1; for a network of one stage take '
                             'model_type: RestorationModel')
        require_checkpoint(opt, 'pretrain_network_s1', 'stage 1')
        if not opt['train'].get('kd_opt'):
            raise InputError('train.kd_opt is missing: the prior is learnt from the teacher, '
                             'kd_opt: {type: KDL1Loss, loss_weight: 1.0}')

    def init_training_settings(self):
        stage1 = self.build_stage1().to(self.device)
        refuse_unfit_pair(stage1, self.get_bare_model(self.net_g))
        self.teacher = stage1.encoder.eval().requires_grad_(False)
        if self.opt['path'].get('pretrain_network_g') is None:
            self.get_bare_model(self.net_g).restorer.load_state_dict(stage1.restorer.state_dict())
        self.cri_kd = build_loss(self.opt['train']['kd_opt']).to(self.device)
        super().init_training_settings()

    def build_stage1(self):
        """The trained first stage of network_g, DiffRWKVIRS1 for DiffRWKVIRS2, with the sizes of network_g."""
        arch = stage1_of(self.opt['network_g']['type'])
        known = parameters_of(ARCH_REGISTRY.get(arch))
        options = {key: value for key, value in self.opt['network_g'].items() if key in known}
        stage1 = build_network({**options, 'type': arch})
        path_opt = self.opt['path']
        self.load_network(stage1, path_opt['pretrain_network_s1'], True, path_opt.get('param_key_s1') or 'params_ema')
        return stage1

    def run_network(self):
        """Sets self.output; -> the network's prior and the teacher's, (B, prior_dim) each."""
        with torch.no_grad():
            masks = () if self.mask is None else (self.mask, )
            target = self.teacher(self.lq, self.gt, *masks)
        noise = self.get_bare_model(self.net_g).diffusion.diffuse(target, torch.randn_like(target))
        self.output, prior = self.net_g(self.lq, noise=noise, return_prior=True,
                                        **self.mask_arguments(composite=False))
        return prior, target

    def compute_losses(self):
        prior, target = self.run_network()
        losses = self.image_losses()
        losses['l_kd'] = self.cri_kd(prior.float(), target.float())
        return losses


def stage1_of(arch):
    """The name of the first stage of a network whose name ends in S2."""
    return arch.removesuffix('S2') + 'S1'


def refuse_unfit_pair(stage1, stage2):
    """Raises InputError where the networks (Modules) are no pair as the docstring of DiffRWKVIRS2Model has it."""
    for net, parts in ((stage1, ('restorer', 'encoder')), (stage2, ('restorer', 'diffusion'))):
        missing = [part for part in parts if not hasattr(net, part)]
        if missing:
            raise InputError(f'network_g: {type(net).__name__} has no {" and no ".join(missing)}; see the docstring of '
                             'DiffRWKVIRS2Model')
    for net, label, given, options in ((stage1.encoder, 'encoder', 2, ()), (stage2, '', 1, ('noise', 'return_prior'))):
        try:
            inspect.signature(net.forward).bind(*[None] * given, **dict.fromkeys(options))
        except TypeError as error:
            of = f'{label} of {type(stage1).__name__}' if label else type(net).__name__
            raise InputError(f'network_g: {of} cannot be called as stage 2 calls it: {error}; see the docstring of '
                             'DiffRWKVIRS2Model') from None


def require_checkpoint(opt, key, stage):
    """Raises InputError where path.{key} names no file; the message says which command makes it.

    Args:
        opt (dict): The options.
        key (str): Such as 'pretrain_network_s1'.
        stage (str): What makes the checkpoint, such as 'stage 1'.
    """
    path = opt['path'].get(key)
    if path is None:
        raise InputError(f'path.{key} is missing: {opt["model_type"]} starts from the checkpoint of {stage}, '
                         'experiments/NAME/models/net_g_latest.pth')
    refuse_missing(key, path, stage)
