"""The arguments of the command and its verbs, without importing torch."""
import argparse


def command_parser(verb, description=None, epilog=None):
    """The parser of `basicsr VERB`, without arguments yet; texts keep their lines."""
    return argparse.ArgumentParser(prog=f'basicsr {verb}', description=description, epilog=epilog,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)


def option_arguments(verb, description=None, epilog=None):
    """The parser of BasicSR's own flags, as in utils/options.py:82-90.

    Returns:
        argparse.ArgumentParser: With -opt, --launcher, --auto_resume, --debug and --force_yml; and --import, which is
            ours.
    """
    parser = command_parser(verb, description, epilog)
    parser.add_argument('-opt', required=True, metavar='FILE', help='option file (YAML)')
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm'], default='none', help='how several processes are started')
    parser.add_argument(
        '--auto_resume', action='store_true', help='continue from the newest usable training state of this experiment')
    parser.add_argument(
        '--debug', action='store_true',
        help='trial run as experiment debug_NAME: validates and saves every 8 iterations, shows tracebacks')
    add_imports(parser)
    parser.add_argument(
        '--force_yml',
        nargs='+',
        default=None,
        metavar='KEY=VALUE',
        help='options that override the file, such as train:total_iter=1000 network_g:depths=[2,2]')
    return parser


def add_imports(parser):
    """Adds --import, for import_users of registration.py."""
    parser.add_argument(
        '--import', dest='imports', action='append', default=[], metavar='PACKAGE',
        help='a package or module of your own that registers networks, models, losses, datasets or metrics; may be '
        'given again')


def drop_local_rank(arguments):
    """Removes `--local-rank=N`, `--local_rank N` and the like.

    `python -m torch.distributed.launch` inserts them before all other arguments; torchrun and BasicSR take the rank
    from the environment (BasicSR#626).

    Args:
        arguments (list[str]): As in `sys.argv[1:]`.

    Returns:
        list[str]: The others, in their order.
    """
    kept = []
    rest = iter(arguments)
    for argument in rest:
        if argument in ('--local-rank', '--local_rank'):
            next(rest, None)
        elif not argument.startswith(('--local-rank=', '--local_rank=')):
            kept.append(argument)
    return kept
