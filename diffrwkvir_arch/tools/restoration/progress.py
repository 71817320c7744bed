"""How far `basicsr restore` is: a bar of images that moves with every tile of them."""
import itertools
import sys

from tqdm import tqdm

FORMAT = '{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total_fmt} [{elapsed}<{remaining}{postfix}]'


class Progress(tqdm):
    """A bar over images; its pace is that of the whole run, for images differ in size."""

    # Drawn by updates alone: no thread writes to stderr while decoders are heard there.
    monitor_interval = 0

    def __init__(self, images):
        super().__init__(total=images, desc='images', bar_format=FORMAT, smoothing=0, miniters=0)
        self.done = 0

    def begin(self, path, size, result_size, calls):
        """Says which image is next, in a line where it takes more than one call; -> what is to be called after each.

        Args:
            size, result_size (sequence of int): (h, w); calls (int): of the method.
        """
        (height, width), (result_height, result_width) = size, result_size
        self.set_postfix_str(path.name)
        if calls > 1:
            self.tell(path, f'{width}x{height} to {result_width}x{result_height} in {calls} steps')
        made = itertools.count(1)
        # Never beyond the image, as sums of fractions may be, whatever is said of their number.
        return lambda: self.update(self.done + min(1, next(made) / calls) - self.n)

    def tell(self, path, what):
        """A line about an image."""
        self.write(f'{path}: {what}', file=sys.stderr)

    def end(self):
        """After an image, restored or not."""
        self.done += 1
        self.update(self.done - self.n)
