"""FID and KID of what a method made of a set, from its restored images in files."""
import math
import warnings

from diffrwkvir_arch.errors import counted
from diffrwkvir_arch.metrics.inception_metric import SetScores
from diffrwkvir_arch.metrics.set_metrics import FEW_IMAGES

from .journal import key_of


def score_set(image_set, rows, read, metrics, journal):
    """Scores a set, or takes what an earlier run has found on the same images.

    Args:
        image_set (ImageSet).
        rows (list of dict): Results of one method, one for each image, in the order of the set.
        read (callable): Row -> the restored image, BGR uint8 (H, W, 3).
        metrics (dict): Name -> options, all of them of a set.
        journal (Journal).

    Returns:
        dict: Name -> float, or None where the set is too small or has no GT.
    """
    key = key_of('set', [(row['fingerprint'], row['restored']) for row in rows])
    if not (journal.get(key) or {}).keys() >= metrics.keys():
        scores = SetScores(metrics)
        for index, row in enumerate(rows):
            gt = image_set.sample(index).gt
            if gt is None:
                return dict.fromkeys(metrics)
            scores.update(read(row), gt)
        with warnings.catch_warnings():
            # Of few images: the tables say so.
            warnings.simplefilter('ignore')
            journal.put(key, {name: None if math.isnan(value) else value for name, value in scores.compute().items()})
    return {name: journal.get(key)[name] for name in metrics}


def remark(names, images):
    """What is to be known of a set's scores, in one line."""
    few = f'; below {FEW_IMAGES} FID is biased upwards: compare it on the same images only' * (images < FEW_IMAGES)
    return f'{", ".join(names)}: of the set as a whole, N = {counted(images, "image")}{few}'
