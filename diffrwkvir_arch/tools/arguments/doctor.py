"""`basicsr doctor`: what this machine has, whether operator and network compute correctly on it, what is missing."""
import argparse

NOTES = """The operator's backends and the network that comes with the package run on every device and are compared with
what they should compute. Exit code 1 where a result is wrong or something fails that should run: nothing trained there
can be trusted. Quote the whole output in a bug report."""


def argument_parser():
    return argparse.ArgumentParser(prog='basicsr doctor', description=__doc__, epilog=NOTES,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
