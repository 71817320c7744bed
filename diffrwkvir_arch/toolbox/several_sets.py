"""Validation on more than one data set."""
import logging
import os

from basicsr.models.sr_model import SRModel
from basicsr.models.video_base_model import VideoBaseModel
from basicsr.utils.registry import MODEL_REGISTRY

from diffrwkvir_arch.toolbox.patching import swap

FALSE_WARNING = 'Multiple validation datasets are *only* supported by SRModel.'


def mend_overwritten_images():
    """Fault: models/sr_model.py:174, images of a validation are saved by their names alone, so that of several sets
    with equal names (0001.png) the last one's stay.
    Mend: each of several sets has a folder of its own, as in testing.
    """

    def nondist_validation(self, dataloader, current_iter, tb_logger, save_img):
        sets = [phase for phase in self.opt.get('datasets', ()) if phase.startswith('val')]
        if not (save_img and self.opt['is_train'] and len(sets) > 1):
            nondist_validation.upstream(self, dataloader, current_iter, tb_logger, save_img)
            return
        path, folder = self.opt['path'], self.opt['path']['visualization']
        path['visualization'] = os.path.join(folder, dataloader.dataset.opt['name'])
        try:
            nondist_validation.upstream(self, dataloader, current_iter, tb_logger, save_img)
        finally:
            path['visualization'] = folder

    swap(SRModel, 'nondist_validation', nondist_validation)


def is_true_of(record):
    """Whether a log line is other than the warning that is false of SRModel's descendants."""
    return record.msg != FALSE_WARNING


def silence_false_warning(model_type):
    """Drops BasicSR's warning that several validation sets need SRModel, where the model is built on it.

    Fault: train.py:191 warns at every validation, whatever the model.
    """
    logger, model = logging.getLogger('basicsr'), MODEL_REGISTRY.get(model_type)
    logger.removeFilter(is_true_of)
    if issubclass(model, SRModel) and not issubclass(model, VideoBaseModel):
        logger.addFilter(is_true_of)
