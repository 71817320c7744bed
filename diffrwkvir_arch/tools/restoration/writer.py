"""How results reach the disk while the next image is restored."""
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor

# Bytes of results that may wait. A larger one is waited for.
WAITING = 2 ** 28


class Writer:
    """Writes on threads of its own; as a context it ends when all is written, after an error or Ctrl-C too.

    A PNG of two megapixels takes a fifth of a second of one core, and a GPU restores many a second.

    Args:
        device (torch.device): What restores. Beside a GPU several threads write, beside a busy CPU one.
    """

    def __init__(self, device):
        threads = 1 if device.type == 'cpu' else min(8, os.cpu_count() or 1)
        self.pool, self.waiting, self.most = ThreadPoolExecutor(threads), deque(), 2 * threads

    def add(self, size, write):
        """Has `write` (function without arguments) called, which holds `size` bytes; raises what an earlier one raised.

        Waits where too many are not written yet.
        """
        self.waiting.append((self.pool.submit(write), size))
        while self.waiting and (self.waiting[0][0].done() or len(self.waiting) > self.most
                                or sum(held for _, held in self.waiting) > WAITING):
            self.waiting.popleft()[0].result()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.pool.shutdown()
        if kind is None:
            for written, _ in self.waiting:
                written.result()
