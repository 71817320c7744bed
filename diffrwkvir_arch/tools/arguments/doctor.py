"""`basicsr doctor`: shows what is installed and missing, and checks that operator and network compute correctly."""
from diffrwkvir_arch.toolbox.arguments import command_parser

NOTES = """The operator's backends and the network that comes with the package run on every device, and their results
are compared with reference values. The exit code is 1 if a result is wrong or something fails that should run: do not
trust anything trained on such a machine. Please quote the whole output in a bug report."""


def argument_parser():
    return command_parser('doctor', __doc__, NOTES)
