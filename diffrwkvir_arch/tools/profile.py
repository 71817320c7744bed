"""`basicsr profile`: compares parameters, FLOPs, memory and time of networks, as in the paper's Table 4.

Networks are given by their registered names, built with their defaults, or by option files.
"""
import contextlib
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm import tqdm

from diffrwkvir_arch.device import choose_device
from diffrwkvir_arch.errors import InputError, one_line
from diffrwkvir_arch.registration import import_users
from diffrwkvir_arch.toolbox.arguments import add_imports, command_parser

from .call_cost import milliseconds, peak_extra_bytes
from .complexity import complexity
from .networks import by_name, by_option_file, images_for
from .profile_report import Conditions, Measured, as_csv_rows, report
from .scores import write_csv

WARM_UPS = 3
DTYPES = ('float32', 'float64', 'bfloat16', 'float16')

NOTES = """examples:
  basicsr profile DiffRWKVIRS2 DiffIRS2
  basicsr profile -opt options/test_DiffRWKVIR_S2_x4.yml options/test_SwinIR_x4.yml --input 3 64 64 --train
  basicsr profile --import mypkg MyNet DiffRWKVIRS2
  basicsr profile DiffRWKVIRS2 --modules 2 --no-latency --markdown profile.md

FLOPs include matrix products, convolutions, attention and operators with a registered formula, two per multiply-add
(MAC); elementwise operations, norms and interpolation are not counted. Memory is the peak beyond parameters and images:
on a GPU that of PyTorch's caching allocator, on a CPU that of PyTorch's allocator, including memory inside operators.
A training step is a forward and backward pass with the L1 loss, without an optimizer. Networks take turns within every
repetition, so that other load on the machine affects all of them; ratios are medians over repetitions, relative to the
first network. The LQ of a network with a window_size is enlarged to whole windows, as in a test."""


def argument_parser():
    parser = command_parser('profile', __doc__, NOTES)
    parser.add_argument('names', nargs='*', metavar='NAME', help='registered networks, built with their defaults')
    parser.add_argument('-opt', nargs='+', default=[], metavar='FILE', help='option files whose network_g is measured')
    parser.add_argument('--input', nargs='+', metavar='N',
                        help='C H W: channels, height and width of the LQ, without a mask (default: the channels of '
                        'the networks and 64 64)')
    parser.add_argument('--batch', type=int, default=1, help='images per batch (default: %(default)s)')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N (default: %(default)s)')
    parser.add_argument('--dtype', choices=DTYPES, default='float32', help='data type of parameters and images')
    parser.add_argument('--threads', type=int, help='CPU threads')
    parser.add_argument('--repeats', type=int, default=10, help='timed repetitions (default: %(default)s)')
    parser.add_argument('--no-latency', action='store_true', help='skip the timing')
    parser.add_argument('--train', action='store_true', help='also measure memory and time of a training step')
    parser.add_argument('--modules', type=int, default=0, metavar='DEPTH',
                        help='print a table of modules down to this depth')
    add_imports(parser)
    parser.add_argument('--csv', type=Path, metavar='FILE',
                        help='write all numbers to a CSV file, one line per network')
    parser.add_argument('--markdown', type=Path, metavar='FILE', help='write the printed tables to a Markdown file')
    return parser


def default_input(recipes):
    """C H W for all networks; InputError where they are for images of different channels."""
    labels = {recipe.channels: recipe.label for recipe in recipes}
    if len(labels) > 1:
        raise InputError('networks for images of other channels are profiled apart, and these are for '
                         + ', '.join(f'{channels} ({labels[channels]})' for channels in sorted(labels)))
    return [*map(str, labels), '64', '64']


def conditions(args, recipes):
    """Checks the arguments; -> Conditions."""
    args.input = args.input or default_input(recipes)
    if not (len(args.input) == 3 and all(text.isdecimal() and int(text) > 0 for text in args.input)):
        raise InputError(f'--input needs 3 integers C H W, such as 3 64 64; got {" ".join(args.input)}')
    for name, least in {'batch': 1, 'repeats': 1, 'threads': 1, 'modules': 0}.items():
        value = getattr(args, name)
        if value is not None and value < least:
            raise InputError(f'--{name} must be at least {least}, got {value}')
    for name in ('csv', 'markdown'):
        if getattr(args, name):
            make_writable(getattr(args, name), f'--{name}')
    if args.threads:
        torch.set_num_threads(args.threads)
    return Conditions((args.batch, *map(int, args.input)), getattr(torch, args.dtype),
                      choose_device(args.device, '--device'), WARM_UPS)


def make_writable(path, option):
    """Makes the folder of a file that is written last, when a failure would cost most."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open('a').close()
    except OSError as error:
        raise InputError(f'{option}: cannot write {path}: {error.strerror}') from None


@contextlib.contextmanager
def noting_failure(network, doing):
    """Whatever a network raises is told in one line, and the others go on."""
    try:
        yield
    except Exception as error:
        network.failure = f'{doing}: {one_line(error)}'


def prepare(network, where):
    """Builds a network and its images, counts, and measures an inference's memory."""
    net = network.recipe.build().to(where.device, where.dtype).eval()
    network.images, network.masks = images_for(net, network.recipe, where.shape, where.device, where.dtype)
    network.net = net
    network.complexity = complexity(net, network.images, network.masks)
    network.inference.bytes = peak_extra_bytes(lambda: infer(network), where.device)


def infer(network):
    with torch.no_grad():
        return network.net(*network.images, **network.masks)


def train_step(network):
    """Forward and backward pass of the L1 loss to a grey image; the gradients are dropped."""
    restored = network.net(*network.images, **network.masks)
    F.l1_loss(restored, torch.full_like(restored, 0.5)).backward()
    network.net.zero_grad(set_to_none=True)


def take_turns(networks, task, step, where, repeats):
    """Times step(network) of every network once a repetition; adds to the `task` of each."""
    for repetition in tqdm(range(-WARM_UPS, repeats), desc=task, leave=False, disable=None):
        for network in networks:
            if network.failure is None:
                with noting_failure(network, task):
                    spent = milliseconds(lambda: step(network), where.device)
                    if repetition >= 0:
                        getattr(network, task).milliseconds.append(spent)


def measure(networks, where, args):
    """Fills in `networks`, one measure after the other, so that an interrupt leaves what was there."""
    for network in tqdm(networks, desc='counting', leave=False, disable=None):
        with noting_failure(network, 'first call'):
            prepare(network, where)
    if not args.no_latency:
        take_turns(networks, 'inference', infer, where, args.repeats)
    if args.train:
        for network in networks:
            if network.failure is None:
                network.net.train()
                with noting_failure(network, 'training'):
                    network.training.bytes = peak_extra_bytes(lambda: train_step(network), where.device)
        if not args.no_latency:
            take_turns(networks, 'training', train_step, where, args.repeats)


def main(arguments=None):
    """Runs the verb.

    Returns:
        int: 0, or 1 where a network failed.

    Raises:
        InputError: An argument, a name or an option file cannot be used.
    """
    args = argument_parser().parse_intermixed_args(arguments)
    import_users(args.imports)
    recipes = [by_name(name) for name in args.names] + [by_option_file(path) for path in args.opt]
    if not recipes:
        raise InputError('which network? Give registered names or option files: basicsr profile DiffRWKVIRS2 DiffIRS2')
    where = conditions(args, recipes)
    networks = [Measured(recipe) for recipe in recipes]
    try:
        measure(networks, where, args)
    finally:
        text = report(networks, where, args.modules)
        print(text)
        if args.markdown:
            args.markdown.write_text(text + '\n', encoding='utf-8')
        rows = as_csv_rows(networks, where)
        if args.csv and rows:
            write_csv(rows, args.csv)
    return int(any(network.failure for network in networks))
