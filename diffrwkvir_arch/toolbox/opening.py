"""The data of a run is opened before what an earlier run has left is put away."""
import copy

import basicsr.utils
from basicsr.utils.registry import DATASET_REGISTRY

from diffrwkvir_arch.option_sections import PLUGIN, package_of
from diffrwkvir_arch.toolbox.loading import training_loader
from diffrwkvir_arch.toolbox.patching import swap


def mend_data_opened_late():
    """Fault: train.py:103-120 and test.py:19-31 archive an earlier run or result of the name, make new folders, and
    only then find images without partner, or too few for a batch.
    Mend: datasets are opened before, and once more where BasicSR does.
    """

    def make_exp_dirs(opt):
        for phase, section in opt['datasets'].items():
            dataset_class = DATASET_REGISTRY.get(section['type'])
            # Some of BasicSR's write to the log, whose file is to lie in one of the folders.
            if package_of(dataset_class) == PLUGIN:
                dataset = dataset_class(copy.deepcopy(section))
                if phase == 'train':
                    training_loader(dataset, section, opt)
        make_exp_dirs.upstream(opt)

    swap(basicsr.utils, 'make_exp_dirs', make_exp_dirs)
