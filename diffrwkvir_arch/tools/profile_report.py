"""What `basicsr profile` measured, as Markdown tables for people and as rows of numbers."""
import platform
import statistics
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Optional

import torch

from diffrwkvir_arch.errors import counted

from .call_cost import device_name
from .complexity import Complexity, within
from .networks import Recipe
from .scores import markdown_table


class Conditions(NamedTuple):
    """What all networks share: shape (B, C, H, W) of the LQ, torch.dtype, torch.device, calls before timing."""
    shape: tuple
    dtype: torch.dtype
    device: torch.device
    warm_ups: int


@dataclass
class Cost:
    """Of one kind of call: peak extra bytes, and the time of every repetition."""
    bytes: Optional[int] = None
    milliseconds: list = field(default_factory=list)

    def quartiles(self):
        """First quartile, median, third quartile."""
        times = self.milliseconds
        return statistics.quantiles(times, n=4, method='inclusive') if len(times) > 1 else times * 3

    def ratio(self, first):
        """Median over repetitions of this time over that of `first`; None without times."""
        ratios = [mine / theirs for mine, theirs in zip(self.milliseconds, first.milliseconds)]
        return statistics.median(ratios) if ratios else None


@dataclass
class Measured:
    """A network and what is known of it so far."""
    recipe: Recipe
    net: Any = None
    images: tuple = ()
    masks: dict = field(default_factory=dict)
    complexity: Optional[Complexity] = None
    inference: Cost = field(default_factory=Cost)
    training: Cost = field(default_factory=Cost)
    failure: Optional[str] = None


TASKS = ('inference', 'training')


def report(networks, where, depth):
    """The whole report; `depth` of the tables of modules, 0 for none."""
    known = [network for network in networks if network.complexity]
    lines = ['# Profile', '', *(f'- {line}' for line in head(networks, where)), '']
    if known:
        lines += [markdown_table(main_rows(known)), '', *(f'- {line}' for line in remarks(known, where)), '']
    for network in known if depth else []:
        lines += [f'## {network.recipe.label}', '', markdown_table(module_rows(network, depth)), '']
    failed = [network for network in networks if network.failure]
    if failed:
        lines += ['## Failed', '', *(f'- {network.recipe.label}: {network.failure}' for network in failed), '']
    return '\n'.join(lines).rstrip()


def head(networks, where):
    lines = [f'Input: {by(where.shape)} (B x C x H x W), {str(where.dtype).removeprefix("torch.")}',
             f'Device: {device_name(where.device)}; torch {torch.__version__}, Python {platform.python_version()}']
    for task in TASKS:
        counts = {len(getattr(network, task).milliseconds) for network in networks} - {0}
        if counts:
            lines.append(f'Times of {task}: median (quartiles) of {counted(max(counts), "repetition")} in turns, after '
                         f'{where.warm_ups} untimed')
    return lines


def by(shape):
    return ' x '.join(map(str, shape))


def main_rows(networks):
    """One row for each network; columns that nobody fills are left out."""
    rows = []
    for network in networks:
        flops = within(network.complexity.flops)
        row = {'network': network.recipe.label, 'params M': f'{within(network.complexity.parameters) / 1e6:.4g}',
               'MACs G': f'{flops / 2e9:.4g}', 'FLOPs G': f'{flops / 1e9:.4g}'}
        for task in TASKS:
            cost, first = getattr(network, task), first_with_times(networks, task)
            row[f'{task} MB'] = '' if cost.bytes is None else f'{cost.bytes / 1e6:.1f}'
            row[f'{task} ms'] = row[f'{task} ratio'] = ''
            if cost.milliseconds:
                low, median, high = cost.quartiles()
                row[f'{task} ms'] = f'{median:.4g} ({low:.4g} .. {high:.4g})'
                row[f'{task} ratio'] = f'{cost.ratio(first):.2f}'
        rows.append(row)
    return [{key: row[key] for key in row if any(other[key] for other in rows)} for row in rows]


def first_with_times(networks, task):
    """What ratios refer to."""
    costs = [getattr(network, task) for network in networks]
    return next((cost for cost in costs if cost.milliseconds), None)


def remarks(networks, where):
    """What the table's units mean; then parts, operators and what was not counted, a line each."""
    lines = ['1 MAC = 2 FLOPs; M = 10^6, G = 10^9, MB = 10^6 bytes at most beyond parameters and images']
    for network in networks:
        label, found = network.recipe.label, network.complexity
        taken = network.images[0].shape
        if network.masks:
            lines.append(f'{label} inpaints: its input comes with a mask')
        if taken != where.shape:
            lines.append(f'{label} takes whole windows: its input is {by(taken)}')
        lines.append(f'{label}, parameters: ' + joined(by_part(found.parameters)))
        lines.append(f'{label}, FLOPs: ' + joined(found.by_operator))
        if found.uncounted:
            calls = ', '.join(f'{name} ({counted(count, "call")})' for name, count in found.uncounted.items())
            lines.append(f'{label}: no FLOP formula is registered for {calls}')
    return lines


def joined(counts):
    """Names and numbers, the largest first."""
    found = sorted((item for item in counts.items() if item[1]), key=lambda item: -item[1])
    return ', '.join(f'{name or "itself"} {engineering(count)}' for name, count in found) or 'none'


def engineering(count):
    """123456 -> '123.5 k'."""
    for unit, size in (('G', 1e9), ('M', 1e6), ('k', 1e3)):
        if count >= size:
            return f'{count / size:.4g} {unit}'
    return str(count)


def by_part(counts):
    """Sums over the direct children of a network; '' is what it holds itself."""
    parts = Counter()
    for path, count in counts.items():
        parts[path.partition('.')[0]] += count
    return parts


def module_rows(network, depth):
    """The network and its modules down to `depth` that have parameters or FLOPs, each with everything inside it."""
    parameters, flops = network.complexity.parameters, network.complexity.flops
    rows = []
    for path, module in network.net.named_modules():
        level = path.count('.') + 1 if path else 0
        counts = [within(counts, path) for counts in (parameters, flops)]
        if not path or level <= depth and any(counts):
            shares = [f'{100 * count / max(within(all_of), 1):.1f} %'
                      for count, all_of in zip(counts, (parameters, flops))]
            rows.append({'module': path or '(whole)', 'class': type(module).__name__, 'params': engineering(counts[0]),
                         'share': shares[0], 'FLOPs': engineering(counts[1]), 'share of FLOPs': shares[1]})
    return rows


def as_csv_rows(networks, where):
    """One dict for each network that was counted: times in ms, '' for what was not measured."""
    known = [network for network in networks if network.complexity]
    batch, channels, height, width = where.shape
    shared = {'batch': batch, 'channels': channels, 'height': height, 'width': width,
              'dtype': str(where.dtype).removeprefix('torch.'), 'device': device_name(where.device),
              'threads': torch.get_num_threads(), 'torch': torch.__version__}
    rows = []
    for network in known:
        flops = within(network.complexity.flops)
        row = {'network': network.recipe.label, 'parameters': within(network.complexity.parameters),
               'macs': flops / 2, 'flops': flops, 'uncounted': ' '.join(network.complexity.uncounted)}
        for task in TASKS:
            cost, first = getattr(network, task), first_with_times(known, task)
            low, median, high = cost.quartiles() or [''] * 3
            row |= {f'{task}_peak_bytes': '' if cost.bytes is None else cost.bytes,
                    f'{task}_repeats': len(cost.milliseconds), f'{task}_ms_q1': low, f'{task}_ms_median': median,
                    f'{task}_ms_q3': high, f'{task}_ratio': cost.ratio(first) if cost.milliseconds else ''}
        rows.append(row | shared)
    return rows
