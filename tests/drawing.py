"""Pictures that tests make."""
import numpy as np


def draw(height, width, seed):
    """A smooth picture with edges, (H, W, 3) uint8."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    channels = [127 + 90 * np.sin(x / random.uniform(3, 9) + y / random.uniform(3, 9)) for _ in range(3)]
    picture = np.stack(channels, axis=-1)
    picture[height // 4:height // 2, width // 4:width // 2] = random.integers(0, 255, 3)
    return picture.astype(np.uint8)


def noise(*shape, seed=0):
    """uint8."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
