"""Triton 3.3 and 3.4 do not know tl.range's disable_licm: there it is accepted and ignored, and registers spill."""
import triton.language as tl


def accept_disable_licm():
    """Wraps tl.range once; what it does without that option does not change."""
    original = tl.range.__init__
    if getattr(original, 'ignores_disable_licm', False):
        return

    def init(self, *args, disable_licm=False, **options):
        original(self, *args, **options)

    init.ignores_disable_licm = True
    tl.range.__init__ = init
