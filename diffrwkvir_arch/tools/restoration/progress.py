"""How far `basicsr restore` is: a bar of images that moves with every tile of them."""
import sys

from tqdm import tqdm

FORMAT = '{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total_fmt} [{elapsed}<{remaining}{postfix}]'


class Progress(tqdm):
    """A bar over images; its pace is that of the whole run, for images differ in size."""

    def __init__(self, images):
        super().__init__(total=images, desc='images', bar_format=FORMAT, smoothing=0)
        self.done = 0

    def begin(self, path, size, scale, calls):
        """Says which image is next, in a line where it takes more than one call; -> what is to be called after each.

        Args:
            size (tuple of int): (h, w); scale (int): output side over that; calls (int): of the method.
        """
        height, width = size
        self.set_postfix_str(path.name)
        if calls > 1:
            self.write(f'{path}: {width}x{height} to {scale * width}x{scale * height} in {calls} steps',
                       file=sys.stderr)
        return lambda: self.update(1 / calls)

    def end(self):
        """After an image, restored or not."""
        self.done += 1
        self.update(self.done - self.n)
