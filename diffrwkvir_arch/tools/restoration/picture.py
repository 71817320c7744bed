"""An image file as `basicsr restore` reads it, and its result as it is written: of the file's depth, grey and alpha."""
import cv2
import numpy as np
import torch

from diffrwkvir_arch.data.image_file import as_floats, decode_image, decode_stored
from diffrwkvir_arch.errors import InputError

from .decoders import heard

# Of a result that are converted at once.
ROWS = 256


class Picture:
    """An image file: its colours, and what the result shall have of it.

    Raises:
        InputError: It cannot be read.
    """

    def __init__(self, path):
        self.path = path
        try:
            self.content = content = path.read_bytes()
        except OSError as error:
            raise InputError(f'{path}: {error.strerror}') from None
        with heard() as self.said:
            self.colours = decode_image(content, str(path))    # (H, W, 3) RGB float32 in [0, 1]
            stored = decode_stored(content, str(path))
        if stored.dtype == np.float32:
            low, high = stored.min(), stored.max()
            if not (low >= 0 and high <= 1):    # nan included
                raise InputError(f'{path}: its values are {low:.3g} to {high:.3g}; a float image needs [0, 1]')
            stored = (stored * 65535).round().astype(np.uint16)
        self.white = 65535 if stored.dtype == np.uint16 else 255
        self.is_grey = stored.ndim == 2
        self.alpha = None
        if stored.ndim == 3 and stored.shape[2] == 4:
            bgr, self.alpha = stored[..., :3], stored[..., 3]
            self.colours, self.is_grey = as_floats(bgr), (bgr == bgr[..., :1]).all()

    @property
    def hides(self):
        """Whether its alpha channel hides anything; that of an animation or of CMYK hides nothing."""
        return self.alpha is not None and bool((self.alpha < self.white).any())

    def size_at(self, scale):
        """(height, width) of its result; scale (float): the result's sides over its own."""
        return [max(1, round(scale * side)) for side in self.colours.shape[:2]]

    def to_batch(self, device):
        """(1, 3, H, W) RGB float32 in [0, 1]."""
        return torch.from_numpy(self.colours.transpose(2, 0, 1))[None].to(device)

    def like_this(self, restored):
        """(1, 3, h, w) in [0, 1] -> what is written: BGR, or grey, with the alpha channel, in the file's depth."""
        dtype, code = ((np.uint16 if self.white > 255 else np.uint8),
                       cv2.COLOR_RGB2GRAY if self.is_grey else cv2.COLOR_RGB2BGR)
        image = np.empty((*restored.shape[-2:], *(() if self.is_grey else (3, ))), dtype)
        # Some rows at a time: as floats the image takes four times the memory.
        for top in range(0, len(image), ROWS):
            strip = restored[0, :, top:top + ROWS].float().clamp(0, 1).permute(1, 2, 0).cpu().numpy()
            image[top:top + ROWS] = (cv2.cvtColor(strip, code) * self.white).round()
        if self.alpha is None:
            return image
        if self.is_grey:
            image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)    # OpenCV writes no alpha beside grey
        height, width = image.shape[:2]
        return np.dstack([image, cv2.resize(self.alpha, (width, height), interpolation=cv2.INTER_CUBIC)])
