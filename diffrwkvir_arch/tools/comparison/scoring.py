"""Which metrics there are, and one image's scores by them, as far as they work; those of a set are in set_scoring."""
import math
import warnings

import numpy as np
from basicsr.metrics import calculate_metric
from basicsr.utils.registry import METRIC_REGISTRY

from diffrwkvir_arch.errors import InputError, did_you_mean, first_line, one_line
from diffrwkvir_arch.metrics.hole_metric import takes_mask
from diffrwkvir_arch.metrics.inception_metric import SetScores, is_of_set
from diffrwkvir_arch.metrics.protocols import protocol_metrics
from diffrwkvir_arch.metrics.tables import direction
from diffrwkvir_arch.option_sections import is_own
from diffrwkvir_arch.signatures import parameters_of
from diffrwkvir_arch.toolbox.images import needs_gt

PROBE_SIZE = 256


def known_metrics(scale):
    """Name -> options as in val.metrics, in the order of the tables.

    At scale 1 the field measures whole images, colours before luma, holes, and LPIPS by VGG in inpainting.
    """
    border = scale if scale > 1 else 0
    luma = {name: {**options, 'crop_border': border} for name, options in protocol_metrics('y_border', scale).items()}
    colours = protocol_metrics('rgb', scale)
    hole = {name: {'type': f'calculate_{name}', 'crop_border': 0} for name in ('hole_psnr', 'hole_ssim')}
    nets = ('alex', 'vgg') if scale == 1 else ('alex', )
    return {
        **({**hole, **colours, **luma} if scale == 1 else {**luma, **colours}),
        'rmse': {'type': 'calculate_rmse', 'crop_border': 0},
        'sam': {'type': 'calculate_sam', 'crop_border': 0, 'unit': 'degrees'},
        **{f'lpips_{net}': {'type': 'calculate_lpips', 'crop_border': 0, 'net': net} for net in nets},
        'niqe': {'type': 'calculate_niqe', 'crop_border': border},
        **{name: {'type': f'calculate_{name}'} for name in ('fid', 'kid')},
    }


def applicable(metrics, has_masks):
    """Those metrics, name -> options, that a set with or without masks can be measured by."""
    return {name: options for name, options in metrics.items() if has_masks or not takes_mask(options['type'])}


def split_by_set(metrics):
    """-> the metrics of single images and those of a set as a whole, both name -> options."""
    by_set = {name: options for name, options in metrics.items() if is_of_set(options['type'])}
    return {name: options for name, options in metrics.items() if name not in by_set}, by_set


def first_psnr(metrics, found):
    """The first PSNR among metrics (names) that one of `found`, dicts of name -> value or None, holds; or None."""
    return next((name for name in metrics if 'psnr' in name
                 and any(scores.get(name) is not None for scores in found)), None)


def describe(scale):
    """What the names mean, in one line."""
    border = f' without {scale} pixels of border' if scale > 1 else ''
    hole = '' if scale > 1 else 'hole_psnr and hole_ssim on the RGB of the hole, '
    return (f'Metrics, on 8-bit images: {hole}psnr_y and ssim_y on BT.601 Y{border}'
            f'{" (protocol y_border)" if border else ""}, psnr_rgb and ssim_rgb on whole RGB images (protocol rgb), '
            f'rmse on RGB in grey levels, sam in degrees, lpips on RGB, niqe on Y{border}')


def choose_metrics(names, scale):
    """The metrics of --metrics.

    Args:
        names (list of str | None): Those of known_metrics, or registered ones with or without 'calculate_', of which a
            package may have its own. None for all known ones that are measured image by image.

    Returns:
        dict: Name -> options.

    Raises:
        InputError: An unknown name.
    """
    known = known_metrics(scale)
    chosen = {name: options for name, options in known.items()
              if (name in names if names else not is_of_set(options['type']))}
    for name in names or []:
        if name not in known:
            chosen[name] = registered_metric(name, scale, known)
    return chosen


def registered_metric(name, scale, known):
    """Options of a metric by its registered name; with the scale as border, where it takes one and images are enlarged.

    Raises:
        InputError: Nothing is registered under that name, and `known` are the other ones there are; or its `better`
            is no direction.
    """
    registered = {key.removeprefix('calculate_'): key for key, _ in METRIC_REGISTRY}
    kind = name if name in METRIC_REGISTRY else registered.get(name)
    if kind is None:
        names = {**known, **registered}
        raise InputError(f"--metrics: unknown metric '{name}'{did_you_mean(name, names)}; choose from "
                         f'{", ".join(names)}; --import PACKAGE adds those of your own')
    if direction(kind) not in ('higher', 'lower', None):
        raise InputError(f"--metrics: {kind}.better must be 'higher' or 'lower', got {direction(kind)!r}")
    takes_border = 'crop_border' in parameters_of(METRIC_REGISTRY.get(kind))
    return {'type': kind, **({'crop_border': scale if scale > 1 else 0} if takes_border else {})}


def usable_metrics(metrics):
    """Tries each metric on noise, those of a set by loading their network.

    Returns:
        tuple: The metrics that work here, and name -> why for the others, such as one whose weights are not there.
    """
    noise = np.random.default_rng(0).integers(0, 256, (2, PROBE_SIZE, PROBE_SIZE, 3), dtype=np.uint8)
    hole = np.ones((PROBE_SIZE, PROBE_SIZE))
    usable, unusable = {}, {}
    for name, options in metrics.items():
        try:
            if is_of_set(options['type']):
                SetScores({name: options})
            else:
                measure({'img': noise[0], 'img2': noise[1]}, hole, options)
        except (InputError, ImportError, OSError) as error:
            unusable[name] = first_line(error)
        except Exception as error:
            if is_own(METRIC_REGISTRY.get(options['type'])):
                raise
            unusable[name] = one_line(error)
        else:
            usable[name] = options
    return usable, unusable


def score(restored, gt, mask, metrics):
    """Scores one image.

    Args:
        restored (ndarray): BGR uint8 (H, W, 3).
        gt (ndarray | None): Likewise; without it only metrics that need none are measured.
        mask (ndarray | None): (H, W), 1 in the hole, 0 elsewhere; without it only metrics that need none.
        metrics (dict): Name -> options.

    Returns:
        dict: Name -> float, or None where the metric is not defined on this image.
    """
    images = {'img': restored} if gt is None else {'img': restored, 'img2': gt}
    scores = {}
    for name, options in metrics.items():
        lacking = gt is None and needs_gt(options['type']) or mask is None and takes_mask(options['type'])
        value = math.nan if lacking else measure(images, mask, options)
        scores[name] = None if math.isnan(value) else value
    return scores


def measure(images, mask, options):
    given = {**images, 'mask': mask} if takes_mask(options['type']) else images
    with warnings.catch_warnings():
        # Of images too small for a metric: the tables show a dash.
        warnings.simplefilter('ignore')
        return float(calculate_metric(given, options))
