"""FID and KID by the names that `val.metrics` knows, and what gathers the images of a set for them.

BasicSR hands a metric one image at a time and averages what comes back; these two belong to the set as a whole.
"""
import math
import warnings

from basicsr.utils.registry import METRIC_REGISTRY

from diffrwkvir_arch.device import choose_device
from diffrwkvir_arch.errors import InputError

from . import set_metrics
from .contract import basicsr_metric
from .set_metrics import FEW_IMAGES


@METRIC_REGISTRY.register()
@basicsr_metric
def calculate_fid(img, img2, weights=None, device='auto'):
    """Frechet Inception distance of a set, lower is better; measured by RestorationModel and what is built on it.

    Args:
        img (ndarray): As `InceptionDistances.update` takes it.
        img2 (ndarray): Likewise, the GT.
        weights (str | None): torch-fidelity's Inception file; None looks in torch.hub's cache.
        device (str): 'cpu', 'cuda', 'cuda:1'; 'auto' is for CUDA where there is one.

    Raises:
        InputError: Whenever it is called, as other models do with every image; SetScores is what measures.
    """
    raise InputError(NOT_BY_IMAGE.format('calculate_fid'))


@METRIC_REGISTRY.register()
@basicsr_metric
def calculate_kid(img, img2, weights=None, device='auto'):
    """Kernel Inception distance of a set, lower is better; arguments and errors as for calculate_fid."""
    raise InputError(NOT_BY_IMAGE.format('calculate_kid'))


NOT_BY_IMAGE = ('{} measures a set as a whole, and this model measures image by image: use model_type '
                'RestorationModel or one that is built on it')


def check_options(path, section):
    """Refuses what could not be measured or tracked: no torch-fidelity, weights or device, `better: higher`."""
    if section.get('better', 'lower') != 'lower':
        raise InputError(f'{path}.better: lower is better for {section["type"]}')
    choose_device(section.get('device', 'auto'), f'{path}.device')
    try:
        set_metrics.build_inception(section.get('weights'))
    except InputError as error:
        raise InputError(f'{path}: {error}') from None


# Of what InceptionDistances.compute returns.
calculate_fid.set_score, calculate_kid.set_score = 'fid', 'kid'
calculate_fid.check_options = calculate_kid.check_options = check_options


def is_of_set(metric_type):
    """Whether a registered metric belongs to a set as a whole."""
    return hasattr(METRIC_REGISTRY.get(metric_type), 'set_score')


class SetScores:
    """FID and KID of one set: `update` with each image, then `compute`; Inception sees every image once.

    Args:
        metrics (dict): Name -> options as in val.metrics; all of them `is_of_set`.

    Raises:
        InputError: torch-fidelity is not installed, or the weights are not where they should be.
    """

    def __init__(self, metrics):
        self.metrics, self.images = metrics, 0
        places = {self.place(options) for options in metrics.values()}
        self.distances = {place: set_metrics.InceptionDistances(*place) for place in places}

    @staticmethod
    def place(options):
        return options.get('weights'), options.get('device', 'auto')

    def update(self, img, img2):
        """Adds a restored image and its GT, as InceptionDistances.update takes them."""
        self.images += 1
        for distances in self.distances.values():
            distances.update(img, img2)

    def compute(self):
        """-> dict: name -> float, lower is better; nan with a warning where there are less than two images."""
        if self.images < 2:
            warnings.warn(f'{", ".join(self.metrics)} need at least two images, {FEW_IMAGES} to be meaningful; got '
                          f'{self.images}', stacklevel=2)
            return dict.fromkeys(self.metrics, math.nan)
        computed = {place: distances.compute() for place, distances in self.distances.items()}
        return {name: computed[self.place(options)][METRIC_REGISTRY.get(options['type']).set_score]
                for name, options in self.metrics.items()}
