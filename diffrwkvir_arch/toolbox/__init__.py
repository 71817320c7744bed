"""Every work-around for BasicSR 1.4.2, each with its reason; nowhere else does the plugin bend BasicSR.

Each function named `mend_*` is called once, in the order of its file, and says which fault it mends: file and line in
BasicSR 1.4.2, and the symptom. What it replaces stays reachable as the replacement's `.upstream`.
"""

_mended = False


def mend():
    """Applies every mend once; calling it again changes nothing."""
    global _mended
    if _mended:
        return
    # BasicSR cannot be imported before this one.
    from diffrwkvir_arch.toolbox.imports import mend_imports
    mend_imports()

    from diffrwkvir_arch.toolbox import (channels, checkpoints, distributed, images, lmdb_backend, loading, locking,
                                         logs, opening, options, perceptual, registries, repeating, resuming, schedules,
                                         several_sets, stopping, training)
    for part in (registries, options, distributed, loading, opening, lmdb_backend, images, channels, checkpoints,
                 training, perceptual, schedules, repeating, resuming, locking, several_sets, stopping, logs):
        for name, function in list(vars(part).items()):
            if name.startswith('mend_'):
                function()
    _mended = True
