"""Stage 3: stage 2's network is trained on against a discriminator, as DiffIR does for photo-realistic results."""
import torch
from basicsr.archs import build_network
from basicsr.losses import build_loss
from basicsr.utils.registry import LOSS_REGISTRY, MODEL_REGISTRY

from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.option_sections import as_count, require, resumes

from .diffrwkvir_s2_model import DiffRWKVIRS2Model, require_checkpoint
from .restoration_model import MICRO_BATCH


@MODEL_REGISTRY.register()
class DiffRWKVIRGANModel(DiffRWKVIRS2Model):
    """Trains DiffRWKVIRS2 with stage 2's losses and train.gan_opt, and network_d to tell its images from the GT.

    path.pretrain_network_g is stage 2's checkpoint, path.pretrain_network_s1 the teacher's as in stage 2. Discriminator
    and perceptual loss see of an inpainted image the composite, whose known pixels are exact, so that holes alone tell
    it from the GT; the pixel loss sees the network's own output. In an iteration the network steps first, down the
    losses of which l_g_gan is the discriminator's; then the discriminator steps, on the images of before that step.
    train.net_d_iters steps of the discriminator make one of the network, which waits for the first
    train.net_d_init_iters. Testing needs network_g alone, and DiffRWKVIRS2Model does it as well.
    """

    known_options = {'': {'network_d'}, 'train': {'gan_opt', 'net_d_iters', 'net_d_init_iters'}}

    @staticmethod
    def check_options(opt):
        """Refuses to train without checkpoints of both stages and a discriminator, before anything is written."""
        DiffRWKVIRS2Model.check_options(opt)
        if not opt['is_train']:
            return
        if not resumes(opt):
            require_checkpoint(opt, 'pretrain_network_g', 'stage 2')
        if opt['train'].get(MICRO_BATCH) is not None:
            raise InputError(f'train.{MICRO_BATCH}: the discriminator judges whole batches; lower '
                             'datasets.train.batch_size_per_gpu')
        require(opt, '', ['network_d'])
        require(opt['train'], 'train', ['gan_opt', 'optim_d'])
        for key, minimum in (('net_d_iters', 1), ('net_d_init_iters', 0)):
            if key in opt['train']:
                as_count(opt['train'], 'train', key, minimum)
        gan_opt = dict(opt['train']['gan_opt'])
        try:
            LOSS_REGISTRY.get(gan_opt.pop('type'))(**gan_opt)
        except NotImplementedError as error:
            raise InputError(f'train.gan_opt: {error} Choose from vanilla, lsgan, wgan, wgan_softplus, hinge') from None
        check_patch_size(opt['network_d'], opt['datasets']['train'].get('gt_size'))

    def init_training_settings(self):
        self.net_d = self.model_to_device(build_network(self.opt['network_d']))
        self.print_network(self.net_d)
        path_opt = self.opt['path']
        if path_opt.get('pretrain_network_d') is not None:
            self.load_network(self.net_d, path_opt['pretrain_network_d'], path_opt.get('strict_load_d', True),
                              path_opt.get('param_key_d', 'params'))
        train_opt = self.opt['train']
        self.cri_gan = build_loss(train_opt['gan_opt']).to(self.device)
        self.net_d_iters, self.net_d_init_iters = train_opt.get('net_d_iters', 1), train_opt.get('net_d_init_iters', 0)
        super().init_training_settings()

    def setup_optimizers(self):
        # Copied first: RestorationModel takes the type out of optim_g, which may be the same section by a YAML anchor.
        options = dict(self.opt['train']['optim_d'])
        super().setup_optimizers()
        self.optimizer_d = self.get_optimizer(options.pop('type'), self.net_d.parameters(), **options)
        self.optimizers.append(self.optimizer_d)

    def compute_losses(self):
        losses = super().compute_losses()
        losses['l_g_gan'] = self.cri_gan(self.net_d(self.composite()).float(), True)
        return losses

    def optimize_parameters(self, current_iter):
        # The discriminator's weights want no gradient of the network's losses.
        self.net_d.requires_grad_(False)
        if current_iter > self.net_d_init_iters and current_iter % self.net_d_iters == 0:
            super().optimize_parameters(current_iter)
        else:
            with torch.no_grad(), self.autocast():
                self.run_network()
            self.log_dict = {}
        self.net_d.requires_grad_(True)
        with self.autocast():
            real, fake = self.net_d(self.gt), self.net_d(self.composite().detach())
        losses = {'l_d_real': self.cri_gan(real.float(), True, is_disc=True),
                  'l_d_fake': self.cri_gan(fake.float(), False, is_disc=True)}
        self.optimizer_d.zero_grad()
        sum(losses.values()).backward()
        outputs = {'out_d_real': real.float().mean(), 'out_d_fake': fake.float().mean()}
        self.log_dict |= self.step('d', {**losses, **outputs}, current_iter)

    def save(self, epoch, current_iter):
        # Before the training state, which stands for all that it needs.
        self.save_network(self.net_d, 'net_d', current_iter)
        super().save(epoch, current_iter)


def check_patch_size(network_d, gt_size):
    """Raises InputError for patches that one of BasicSR's discriminators cannot take."""
    if gt_size is not None and network_d['type'] == 'UNetDiscriminatorSN' and gt_size % 8:
        raise InputError(f'datasets.train.gt_size: {gt_size} is not a multiple of 8, and UNetDiscriminatorSN halves '
                         f'patches three times; use {gt_size // 8 * 8 or 8} or {(gt_size // 8 + 1) * 8}')
    taken = network_d.get('input_size', 128)
    if gt_size is not None and network_d['type'] == 'VGGStyleDiscriminator' and gt_size != taken:
        raise InputError(f'network_d.input_size: {taken} (128 or 256) differs from datasets.train.gt_size: {gt_size}')
