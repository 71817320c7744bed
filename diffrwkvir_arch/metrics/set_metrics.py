"""FID (Heusel et al. 2017) and KID (Binkowski et al. 2018): how far a set of restored images is from the set of GTs.

Both compare the 2048 features of Inception-v3, with the weights and the resizing of the original TensorFlow code as the
package torch-fidelity has them. They belong to sets of thousands of images; on Set5 they say nothing.
"""
import warnings

import numpy as np
import torch

from diffrwkvir_arch.device import choose_device
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.pretrained import find_pretrained, load_pretrained

from .contract import prepare_pair

INCEPTION_URL = ('https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/'
                 'weights-inception-2015-12-05-6726825d.pth')
# Below as many images as features the covariance is singular, and FID is biased upwards.
FEW_IMAGES = 2048


class InceptionDistances:
    """FID and KID of a set: `update` with each pair, then `compute`.

    Args:
        weights (str | None): The Inception file of torch-fidelity; None looks in torch.hub's cache.
        device (str): 'cpu', 'cuda', 'cuda:1'; 'auto' is for CUDA where there is one.

    Raises:
        InputError: torch-fidelity is not installed, or the weights are not where they should be.
    """

    def __init__(self, weights=None, device='auto'):
        self.device = choose_device(device)
        self.network = build_inception(weights).to(self.device)
        self.restored, self.real = [], []

    def update(self, img, img2):
        """Adds a restored image and its GT.

        Args:
            img (ndarray): (H, W) or (H, W, C); C is 1 or 3 (BGR); uint8 or float in [0, 255], rounded.
            img2 (ndarray): Of the same shape.
        """
        pair = np.stack(prepare_pair(img, img2, 0)).round().clip(0, 255).astype(np.uint8)
        rgb = np.broadcast_to(pair[..., ::-1], (*pair.shape[:3], 3)).transpose(0, 3, 1, 2).copy()
        with torch.no_grad():
            features, = self.network(torch.from_numpy(rgb).to(self.device))
        restored, real = features.double().cpu().numpy()
        self.restored.append(restored)
        self.real.append(real)

    def compute(self):
        """-> dict: fid and kid (float, lower is better).

        Raises:
            InputError: There are less than two images.
        """
        count = len(self.real)
        if count < 2:
            raise InputError(f'FID and KID need at least two images, {FEW_IMAGES} to be meaningful; got {count}')
        if count < FEW_IMAGES:
            warnings.warn(f'FID of {count} images is biased upwards: give the number with it and compare only results '
                          f'on the same images; {FEW_IMAGES} and more make it dependable', stacklevel=2)
        restored, real = np.stack(self.restored), np.stack(self.real)
        return {'fid': frechet_distance(restored, real), 'kid': kernel_distance(restored, real)}


def build_inception(weights=None):
    """torch-fidelity's Inception-v3 on the CPU: (B, 3, H, W) uint8 RGB -> a tuple with the features (B, 2048)."""
    try:
        from torch_fidelity import FeatureExtractorInceptionV3
    except ImportError as error:
        raise InputError("FID and KID need torch-fidelity: pip install 'diffrwkvir[metrics]'") from error
    path = find_pretrained(INCEPTION_URL, weights)
    # torch-fidelity would unpickle any object.
    load_pretrained(path)
    with torch.random.fork_rng(devices=[]):
        try:
            return FeatureExtractorInceptionV3('inception', ['2048'], feature_extractor_weights_path=str(path))
        except RuntimeError as error:
            raise InputError(f'{path} does not hold the weights of {INCEPTION_URL}') from error


def frechet_distance(features, features2):
    """Squared Frechet distance of the Gaussians fitted to two sets; (N, D) and (M, D), N, M >= 2 -> float >= 0.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), Eq. 6 of Heusel et al.
    """
    means, roots = zip(*map(_mean_and_root, (features, features2)))
    # With S = R^T R, the root of S1 S2 has the trace of singular values of R1 R2^T: real, and exact for few images too.
    cross = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    distance = np.sum((means[0] - means[1])**2) + sum(np.sum(root**2) for root in roots) - 2 * cross
    return max(float(distance), 0.)


def _mean_and_root(features):
    """(N, D) -> mean (D,) and R (min(N, D), D) with R^T R the unbiased covariance."""
    mean = features.mean(axis=0)
    return mean, np.linalg.qr((features - mean) / np.sqrt(len(features) - 1), mode='r')


def kernel_distance(features, features2, subsets=100, size=1000):
    """Unbiased squared maximum mean discrepancy with the kernel (x . y / D + 1)^3, averaged over random subsets.

    Args:
        features, features2 (ndarray): (N, D), the same N >= 2.
        subsets (int): How many; drawn with a fixed seed.
        size (int): Images in each; up to that many images, all of them make the one subset.

    Returns:
        float: 0 in the mean for sets of one distribution, so a little below 0 at times.
    """
    count, random = len(features), np.random.default_rng(0)
    if count <= size:
        return _squared_discrepancy(features, features2)
    return float(np.mean([_squared_discrepancy(*(each[random.choice(count, size, replace=False)]
                                                 for each in (features, features2))) for _ in range(subsets)]))


def _squared_discrepancy(x, y):
    within_x, within_y, between = ((a @ b.T / a.shape[1] + 1)**3 for a, b in ((x, x), (y, y), (x, y)))
    count = len(x)
    # Unbiased, so without the pairs of an image with itself.
    within = sum(kernel.sum() - np.trace(kernel) for kernel in (within_x, within_y)) / (count * (count - 1))
    return float(within - 2 * between.mean())
