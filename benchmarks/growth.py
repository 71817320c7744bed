"""How time and memory of inference grow with the image: networks of option files on LQ images of several sides.

    python benchmarks/growth.py -opt options/test_DiffRWKVIR_S2_x4.yml --sides 64 128 256

All sides and networks take turns within a repetition, so that whatever else the machine does falls on all of them.
"""
import argparse
import statistics
import sys
from pathlib import Path

import torch

from diffrwkvir_arch.allocator import keep_freed_memory
from diffrwkvir_arch.device import choose_device
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.tools.call_cost import device_name
from diffrwkvir_arch.tools.networks import by_option_file
from diffrwkvir_arch.tools.profile import WARM_UPS, infer, make_writable, prepare, take_turns
from diffrwkvir_arch.tools.profile_report import Conditions, Measured
from diffrwkvir_arch.tools.scores import markdown_table


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('-opt', nargs='+', required=True, metavar='FILE', help='option files: network_g is measured')
    parser.add_argument('--sides', nargs='+', type=int, default=[64, 128, 256], metavar='PIXELS',
                        help='of square LQ images, compared with the first (default: 64 128 256)')
    parser.add_argument('--repeats', type=int, default=7, help='timed repetitions (default: %(default)s)')
    parser.add_argument('--threads', type=int, help='of the CPU')
    parser.add_argument('--markdown', type=Path, metavar='FILE', help='write what is printed')
    args = parser.parse_args()
    counts = [*args.sides, args.repeats, *([] if args.threads is None else [args.threads])]
    if min(counts) < 1:
        raise InputError('--sides, --repeats and --threads must be at least 1')
    if args.markdown:
        make_writable(args.markdown, '--markdown')
    if args.threads:
        torch.set_num_threads(args.threads)
    device = choose_device()
    keep_freed_memory()

    conditions = {side: Conditions((1, 3, side, side), torch.float32, device, WARM_UPS) for side in args.sides}
    networks = {}
    for recipe in map(by_option_file, args.opt):
        for side, where in conditions.items():
            networks[recipe.label, side] = Measured(recipe)
            prepare(networks[recipe.label, side], where)
    first = args.sides[0]
    take_turns(networks.values(), 'inference', infer, conditions[first], args.repeats)

    rows = []
    for (label, side), network in networks.items():
        if network.failure:
            raise InputError(f'{label}, {side}x{side}: {network.failure}')
        spent, compared = network.inference.milliseconds, networks[label, first].inference.milliseconds
        growth = [(now / side**2) / (then / first**2) for now, then in zip(spent, compared)]
        rows.append({
            'network': label, 'LQ': f'{side}x{side}', 'MB': f'{network.inference.bytes / 1e6:.1f}',
            'ms: median (range)': f'{statistics.median(spent):.0f} ({min(spent):.0f} .. {max(spent):.0f})',
            f'a pixel, of {first}x{first}: median (range)':
                f'{statistics.median(growth):.2f} ({min(growth):.2f} .. {max(growth):.2f})'})
    text = '\n'.join([
        '# Time and memory with the size of the image', '',
        f'Inference, float32, batch 1, {args.repeats} repetitions in turns; {device_name(device)}, torch '
        f'{torch.__version__}. MB is what is held at most beyond parameters and images.',
        '', markdown_table(rows), ''])
    print(text)
    if args.markdown:
        args.markdown.write_text(text, encoding='utf-8')


if __name__ == '__main__':
    try:
        main()
    except InputError as error:
        print(f'error: {error}', file=sys.stderr)
        raise SystemExit(2)
