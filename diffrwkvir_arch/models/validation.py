"""BasicSR's validation with what it lacks: metrics of holes and of whole sets, and datasets without a GT."""
import math
import os

from basicsr.utils import get_root_logger, tensor2img

from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.metrics.hole_metric import takes_mask
from diffrwkvir_arch.metrics.inception_metric import SetScores, is_of_set
from diffrwkvir_arch.toolbox.checkpoints import content_of, read_checkpoint, save_whole
from diffrwkvir_arch.toolbox.images import has_gt, needs_gt
from diffrwkvir_arch.toolbox.resuming import measured_metrics


class Validation:
    """Mix-in before SRModel: hands metrics of the hole their mask, and images to metrics that belong to a set.

    Metrics that need a GT are left out where there is none. val.save_best names a metric: whenever it is the best so
    far on the first validation set, net_g is saved as net_g_best.pth. The model has `mask`, (1, 1, H, W) of an image or
    None.
    """

    # SetScores of the validation that runs.
    set_scores = None

    @staticmethod
    def check_options(opt):
        """Refuses to train with a val.save_best that nothing measures."""
        best = (opt.get('val') or {}).get('save_best')
        if best is None:
            return
        metrics = sorted(measured_metrics(opt).get(first_validation_set(opt).get('name'), ()))
        if best not in metrics:
            raise InputError(f'val.save_best must be a metric of the first validation set, one of '
                             f'{", ".join(metrics) or "none"}, got {best!r}')

    def get_current_visuals(self):
        """What validation saves and measures of an image."""
        if self.mask is not None:
            hole = self.mask[0, 0].cpu().numpy()
            for opt in (self.opt['val'].get('metrics') or {}).values():
                if 'mask' in opt:
                    opt['mask'] = hole
        visuals = super().get_current_visuals()
        if self.set_scores:
            self.set_scores.update(*(tensor2img([visuals[name]]) for name in ('result', 'gt')))
        return visuals

    def nondist_validation(self, dataloader, current_iter, tb_logger, save_img):
        dataset = dataloader.dataset
        if save_img:
            refuse_equal_stems(dataset)
        val_opt = self.opt['val']
        metrics = val_opt.get('metrics')
        measured = {name: opt for name, opt in (metrics or {}).items()
                    if has_gt(dataset.opt, type(dataset)) or not needs_gt(opt['type'])}
        of_set = {name: opt for name, opt in measured.items() if is_of_set(opt['type'])}
        # BasicSR hands a metric the two images and its options: the mask travels as one of these.
        by_image = {name: {**opt, 'mask': None} if takes_mask(opt['type']) else opt
                    for name, opt in measured.items() if name not in of_set}
        val_opt['metrics'] = by_image if measured else None
        # BasicSR would go on with the metrics of the first dataset.
        self.metric_results = dict.fromkeys(by_image, 0)
        self.set_scores = SetScores(of_set) if of_set else None
        try:
            super().nondist_validation(dataloader, current_iter, tb_logger, save_img)
        finally:
            val_opt['metrics'], self.set_scores = metrics, None
        best = val_opt.get('save_best') if self.opt['is_train'] else None
        name = dataset.opt['name']
        if best and name == first_validation_set(self.opt)['name']:
            self.save_if_best(name, best, current_iter)

    def save_if_best(self, dataset_name, metric, current_iter):
        """Saves net_g and its EMA as net_g_best.pth unless the one that is there has as good a score.

        The score stands in the file: training states are saved before validation, and do not know of the last one.
        """
        path = os.path.join(self.opt['path']['models'], 'net_g_best.pth')
        better = self.best_metric_results[dataset_name][metric]['better']
        score = {'dataset': dataset_name, 'metric': metric, 'val': float(self.metric_results[metric]),
                 'iter': current_iter}
        if os.path.isfile(path):
            before = read_checkpoint(path).get('best')
            if before and (before['dataset'], before['metric']) == (dataset_name, metric):
                now, then = score['val'], before['val']
                if math.isnan(now) or (then >= now if better == 'higher' else then <= now):
                    return
        nets = {'params': self.net_g}
        if hasattr(self, 'net_g_ema'):
            nets['params_ema'] = self.net_g_ema
        save_whole({**content_of(self, nets, 'net_g'), 'best': score}, path)

    def _log_validation_metric_values(self, current_iter, dataset_name, tb_logger):
        """BasicSR's block of the log, with the set's own scores and the number of images N that they are of."""
        best, counts = self.best_metric_results[dataset_name], {}
        if self.set_scores:
            for name, value in self.set_scores.compute().items():
                best.setdefault(name, {'better': 'lower', 'val': math.inf, 'iter': -1})
                self._update_best_metric_result(dataset_name, name, value, current_iter)
                self.metric_results[name], counts[name] = value, f'  N = {self.set_scores.images}'
        text = f'Validation {dataset_name}\n'
        for name, value in self.metric_results.items():
            # KIDs differ in their fourth decimal.
            decimals = 6 if name in counts else 4
            text += (f'\t # {name}: {value:.{decimals}f}{counts.get(name, "")}'
                     f'\tBest: {best[name]["val"]:.{decimals}f} @ {best[name]["iter"]} iter\n')
            if tb_logger:
                tb_logger.add_scalar(f'metrics/{dataset_name}/{name}', value, current_iter)
        get_root_logger().info(text)


def first_validation_set(opt):
    """The options of the first data set that training is validated on; empty where there is none."""
    return next((dataset for phase, dataset in opt['datasets'].items() if phase.startswith('val')), {})


def refuse_equal_stems(dataset):
    """Raises InputError where BasicSR would write two results to one file: it names them by the LQ's stem alone."""
    seen = {}
    for entry in getattr(dataset, 'paths', ()):
        path = entry.get('lq_path') if isinstance(entry, dict) else entry
        if isinstance(path, str):
            stem = os.path.splitext(os.path.basename(path))[0]
            if stem in seen:
                raise InputError(f'{seen[stem]} and {path} would both be saved as {stem}; rename one, or say '
                                 'val.save_img: false')
            seen[stem] = path
