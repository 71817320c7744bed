"""DiffRWKVIR as a plugin of BasicSR: `import diffrwkvir_arch` mends BasicSR 1.4.2 and fills its registries."""
import sys

from diffrwkvir_arch import cli


def join_basicsr():
    """Applies every work-around of `toolbox`, then registers networks, losses, metrics, datasets and models."""
    from diffrwkvir_arch import toolbox
    toolbox.mend()
    from diffrwkvir_arch import archs, data, losses, metrics, models  # noqa: F401


# torch and BasicSR take seconds to import; the command does so once it knows that it needs them.
if cli.is_command(sys.argv or [''], sys.orig_argv):
    cli.open_closed_streams()
else:
    join_basicsr()
