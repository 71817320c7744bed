"""`basicsr profile`: builds networks, counts, and times them in turns."""
import contextlib

import torch
import torch.nn.functional as F
from tqdm import tqdm

from diffrwkvir_arch.device import choose_device
from diffrwkvir_arch.errors import InputError, one_line
from diffrwkvir_arch.registration import import_users

from .arguments.profile import argument_parser
from .call_cost import milliseconds, peak_extra_bytes
from .complexity import complexity
from .networks import by_name, by_option_file, images_for
from .profile_report import Conditions, Measured, as_csv_rows, report
from .scores import write_csv

WARM_UPS = 3


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
    args = argument_parser().parse_args(arguments)
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
