"""The `basicsr` command: runs BasicSR's pipelines, with this plugin, in the current directory.

Nothing heavy is imported before a verb runs, so that `basicsr -h` answers at once.
"""
import contextlib
import errno
import functools
import importlib
import io
import os
import signal
import sys
import threading
from importlib import metadata

import diffrwkvir_arch
from diffrwkvir_arch.allocator import keep_freed_memory
from diffrwkvir_arch.errors import InputError, did_you_mean
from diffrwkvir_arch.ranks import count_errors, is_first_rank, is_first_to_tell, refuse_several
from diffrwkvir_arch.toolbox.arguments import drop_local_rank, option_arguments

# Of a disk, and of a user's share of it.
FULL = errno.ENOSPC, errno.EDQUOT
FORBIDDEN = errno.EACCES, errno.EPERM, errno.EROFS
# Of a path that leads nowhere, such as a folder in /proc or within a file.
NOWHERE = errno.ENOENT, errno.ENOTDIR

USAGE_ERROR = 2
INTERRUPTED = 130

TRAIN_EXAMPLES = """examples:
  basicsr train -opt options/train_DiffRWKVIR_S1_x4.yml
  basicsr train -opt options/train_DiffRWKVIR_S1_x4.yml --auto_resume
  basicsr train -opt my.yml --force_yml train:total_iter=1000 datasets:train:batch_size_per_gpu=4
  basicsr train --import mypkg -opt my.yml
  torchrun --nproc_per_node 2 -m diffrwkvir_arch train -opt my.yml --launcher pytorch
  srun --ntasks 2 --kill-on-bad-exit basicsr train -opt my.yml --launcher slurm

Writes experiments/NAME in the current directory; an earlier run of that name is archived beside it, unless resumed.
Ctrl-C finishes the iteration and saves; a second Ctrl-C stops at once."""

TEST_EXAMPLES = """examples:
  basicsr test -opt options/test_DiffRWKVIR_S2_x4.yml
  basicsr test -opt my.yml --force_yml path:pretrain_network_g=net_g_latest.pth

Writes results/NAME in the current directory."""


def train(arguments):
    """Trains the network of an option file."""
    begin(option_arguments('train', train.__doc__, TRAIN_EXAMPLES), arguments)
    from basicsr.train import train_pipeline

    from diffrwkvir_arch.toolbox.stopping import stop_request
    with stop_request.on_signals():
        run_pipeline(train_pipeline, 'train', arguments)
    if stop_request.requested_at is not None:
        raise KeyboardInterrupt('training is complete and saved; the last validation was cut short')


def test(arguments):
    """Tests a network on the datasets of an option file."""
    begin(option_arguments('test', test.__doc__, TEST_EXAMPLES), arguments)
    from basicsr.test import test_pipeline
    run_pipeline(test_pipeline, 'test', arguments)


def run_tool(name, arguments):
    """Runs a verb that is a module of tools, imported only now."""
    begin(importlib.import_module(f'diffrwkvir_arch.tools.arguments.{name}').argument_parser(), arguments)
    return importlib.import_module(f'diffrwkvir_arch.tools.{name}').main(arguments)


TOOLS = {
    'restore': 'Restores your own images with a trained network, large ones in tiles.',
    'export': 'Writes a trained network as ONNX or as a PyTorch program, for use without this package.',
    'demo': 'Trains and tests both stages on photographs from scikit-image, in minutes on two CPU cores.',
    'profile': 'Measures parameters, FLOPs, memory and latency of networks, by name or option file.',
    'compare': 'Compares any mix of methods on test sets: scores, cost, plots and contact sheets.',
    'masks': 'Writes a fixed set of inpainting masks, with a manifest and a preview.',
    'prepare': 'Makes sub-images, MATLAB-exact LRs, lists and LMDBs from folders of GT; --check tests them.',
    'doctor': 'Shows what is installed and missing, and checks that operator and network compute correctly.',
}
VERBS = {'train': train, 'test': test, **{name: functools.partial(run_tool, name) for name in TOOLS}}


def begin(parser, arguments):
    """Answers -h and mistakes, these once for all processes of a job; then imports what takes seconds."""
    answer = io.StringIO()
    try:
        with contextlib.redirect_stderr(answer):
            parser.parse_args(arguments)
    except SystemExit as stop:
        if stop.code and is_first_to_tell():
            print(answer.getvalue(), end='', file=sys.stderr, flush=True)
        raise
    with interrupts_told():
        diffrwkvir_arch.join_basicsr()


def run_pipeline(pipeline, verb, arguments):
    """Runs one of BasicSR's pipelines, which read sys.argv, with results in the current directory."""
    before = sys.argv
    sys.argv = [f'basicsr {verb}', *arguments]
    try:
        pipeline(os.getcwd())
    finally:
        sys.argv = before
    import torch.distributed
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def is_command(argv, orig_argv):
    """Whether this process is the command, and not one that multiprocessing starts for it.

    Args:
        argv (list[str]): sys.argv; while Python imports the package of `-m PACKAGE`, it begins with '-m'.
        orig_argv (list[str]): sys.orig_argv, which still names that package.
    """
    if '--multiprocessing-fork' in orig_argv:
        return False
    if argv[0] == '-m':
        return ('-m', 'diffrwkvir_arch') in zip(orig_argv, orig_argv[1:])
    return os.path.basename(argv[0]) in ('basicsr', 'basicsr.exe')


def open_closed_streams():
    """Standard streams that are closed (`2>&-`) lead nowhere instead.

    Python has None in their place, and a file that is opened later gets their number, with what libraries in C print.
    """
    for number, (name, mode) in enumerate((('stdin', 'r'), ('stdout', 'w'), ('stderr', 'w'))):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, open(number, mode, closefd=False))


@contextlib.contextmanager
def interrupts_told():
    """As `main` does, for the command's imports, which take seconds."""
    if threading.current_thread() is not threading.main_thread() or (
            signal.getsignal(signal.SIGINT) is not signal.default_int_handler):
        yield
        return

    def leave(number, frame):
        # At once: PyTorch goes on without NumPy where an exception comes while that is imported.
        os._exit(tell_interrupt(KeyboardInterrupt()))

    signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def tell_interrupt(interrupt):
    """Prints one line; returns the exit code."""
    if is_first_rank():
        # A closed terminal takes nothing.
        with contextlib.suppress(OSError):
            print(f'basicsr: {str(interrupt) or "interrupted"}', file=sys.stderr, flush=True)
    return INTERRUPTED


def describe():
    """The text of `basicsr -h`."""
    purposes = {'train': train.__doc__, 'test': test.__doc__, **TOOLS}
    verbs = '\n'.join(f'  {name:8}{purpose}' for name, purpose in purposes.items())
    return f'usage: basicsr VERB ...\n\n{verbs}\n\nbasicsr VERB -h describes a verb; --version shows versions.'


def versions():
    """One line with the versions that matter in a bug report."""
    found = []
    for package in ('diffrwkvir', 'basicsr', 'torch'):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f'{package} {metadata.version(package)}')
    return ', '.join([*found, f'python {sys.version.split()[0]}'])


def main(argv=None):
    """Runs a verb.

    Args:
        argv (list[str] | None): Verb and arguments; those of the process by default.

    Returns:
        int: 0; 2 for what the user can put right, told in one line; 130 after Ctrl-C.
    """
    arguments = drop_local_rank(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        # A redirected one may not know all characters (Windows).
        if hasattr(stream, 'reconfigure'):
            stream.reconfigure(errors='replace')
    try:
        if not arguments or arguments[0] in ('-h', '--help'):
            print(describe(), flush=True)
            return 0
        if arguments[0] == '--version':
            print(versions(), flush=True)
            return 0
        verb, *rest = arguments
        if verb not in VERBS:
            raise InputError(f"unknown verb '{verb}'{did_you_mean(verb, VERBS)}; verbs are {', '.join(VERBS)}")
        if verb not in ('train', 'test'):
            refuse_several(verb)
        keep_freed_memory()
        return VERBS[verb](rest) or 0
    except InputError as error:
        return complain(error, last_line(error), arguments)
    except BrokenPipeError as error:
        # Nobody reads stdout any more; Python would complain once more when it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return complain(error, 'the output was closed before all of it was written', arguments)
    except OSError as error:
        if error.errno in FULL:
            return complain(error, f'no space left on device for {error.filename or "the output"}', arguments)
        if error.errno == errno.EFBIG:
            return complain(error, f'{error.filename or "the output"}: larger than files may be here (ulimit -f)',
                            arguments)
        if error.errno in (*FORBIDDEN, *NOWHERE) and error.filename:
            return complain(error, f'{error.filename}: {error.strerror}', arguments)
        raise
    except RuntimeError:
        # Of torch.distributed, in a process that waits for one which has told its error and left.
        if '--debug' in arguments or not count_errors():
            raise
        return USAGE_ERROR
    except KeyboardInterrupt as interrupt:
        return tell_interrupt(interrupt)


def last_line(error):
    """An InputError's message. From a DataLoader's worker it comes wrapped in that process's traceback."""
    line = str(error).strip().splitlines()[-1]
    return line.rpartition('InputError: ')[2]


def complain(error, message, arguments):
    """Prints one line, and with --debug the traceback before it; returns the exit code."""
    if not is_first_to_tell():
        return USAGE_ERROR
    if '--debug' in arguments:
        import traceback
        traceback.print_exception(error)
    with contextlib.suppress(OSError):
        print(f'basicsr: error: {message}', file=sys.stderr, flush=True)
    return USAGE_ERROR
