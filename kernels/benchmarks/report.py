"""How results are written: in Markdown a table of times, what was left out, errors, memory; in CSV a line per body."""
import csv
import statistics
from typing import NamedTuple

import torch
from bodies import BODIES, Case
from machine import description, qkv_bytes
from timing import quartiles

FLOOR = 'floor'
EVERYTHING = 'everything'    # in the place of a body, where the run ended early


class Row(NamedTuple):
    case: Case
    pass_name: str
    times: dict    # body -> [ms of each repetition], the reference first
    floor: float    # ms
    peaks: dict    # body -> bytes; empty where not measured

    def ratios(self, name):
        """Of each repetition: time of a body over that of the reference, which took its turn next to it."""
        reference = next(iter(self.times.values()))
        return [mine / theirs for mine, theirs in zip(self.times[name], reference)]


def table(head, rows):
    head, *rows = ('| ' + ' | '.join(cells) + ' |' for cells in (head, *rows))
    return [head, '|' + '---|' * (head.count('|') - 1), *rows, '']


def bodies_of(results):
    """Those that some result has, in the order of BODIES."""
    return [name for name in BODIES if any(name in result for result in results)]


def cell(row, name):
    if name not in row.times:
        return '-'
    low, median, high = quartiles(row.times[name])
    text = f'{median:.4g} ({low:.4g} .. {high:.4g})'
    return text if name == next(iter(row.times)) else f'{text} {statistics.median(row.ratios(name)):.3g}x'


def floor_cell(row):
    reference = next(iter(row.times.values()), None)
    ratio = '' if reference is None else f' {row.floor / statistics.median(reference):.3g}x'
    return f'{row.floor:.3g}{ratio}'


def head_section(rows, device, extent):
    counts = [len(times) for row in rows for times in row.times.values()] or [0]
    caches = 'a buffer larger than the L2 cache is overwritten before every timed call' if device == 'cuda' else \
        'as the body before left them'
    lines = [*description(device), f'float32 products: {torch.get_float32_matmul_precision()}',
             f'Gates: float32, alike in all directions; caches: {caches}',
             f'Cases: {len({row.case for row in rows})}, {extent}; the bodies take turns within {min(counts)} to '
             f'{max(counts)} repetitions']
    return ['# State evolution over images, four directions', '', *(f'- {line}' for line in lines), '']


def times_section(rows, bandwidth, rate):
    names = bodies_of([row.times for row in rows])
    lines = ['## Times in ms: median (quartiles), ratio to the first time of the row', '']
    lines += table(['image', 'heads x dim', 'dtype', 'pass', *names, FLOOR],
                   [[f'{row.case.batch}x{row.case.size}x{row.case.size}', f'{row.case.heads}x{row.case.dim}',
                     row.case.dtype, row.pass_name, *(cell(row, name) for name in names), floor_cell(row)]
                    for row in rows])
    lines += [f'- `{name}`: {BODIES[name].meaning}' for name in names]
    return lines + [f'- `{FLOOR}`: the longer of moving every input and result once at {bandwidth / 1e9:.4g} GB/s and '
                    f"of the definition's products at {rate / 1e12:.3g} TFLOP/s (bf16 or fp32, the faster), both "
                    'measured in this run', '']


def left_out_section(rows, left_out):
    """left_out: (body, where, reason) of everything that did not run."""
    if not left_out:
        return []
    ran = {EVERYTHING, *(name for row in rows for name in row.times)}
    places = {}
    for name, where, reason in left_out:
        places.setdefault((name, reason), []).append(where)
    lines = []
    for (name, reason), where in places.items():
        more = f' and {len(where) - 1} more' if len(where) > 1 else ''
        lines.append(f'- `{name}`' + (f' ({where[0]}{more})' if name in ran else '') + f': {reason}')
    return ['## Left out', '', *lines, '']


def errors_section(errors, names_of_tensors):
    """errors: (what, body) -> relative errors of names_of_tensors, or of the first of them."""
    lines = ["## Relative L2 error against backend='recurrent' in float64", '']
    missing = ['-'] * len(names_of_tensors)
    return lines + table(['inputs', 'body', *names_of_tensors],
                         [[what, name, *([f'{error:.1e}' for error in values] + missing)[:len(names_of_tensors)]]
                          for (what, name), values in errors.items()])


def memory_section(rows, device):
    note = " (what PyTorch's allocator hands out)" if device == 'cpu' else ''
    rows = [row for row in rows if row.peaks]
    if not rows:
        return []
    names = bodies_of([row.peaks for row in rows])
    lines = [f'## Peak extra memory of forward+backward in MB, as a multiple of q, k and v together{note}', '']
    return lines + table(['image', 'heads x dim', 'dtype', 'q, k, v', *names],
                         [[f'{row.case.batch}x{row.case.size}x{row.case.size}', f'{row.case.heads}x{row.case.dim}',
                           row.case.dtype, f'{qkv_bytes(row.case) / 1e6:.3g}',
                           *(memory_cell(row, name) for name in names)] for row in rows])


def memory_cell(row, name):
    if name not in row.peaks:
        return '-'
    return f'{row.peaks[name] / 1e6:.3g} ({row.peaks[name] / qkv_bytes(row.case):.3g}x)'


def write_csv(path, rows):
    head = ('batch', 'size', 'heads', 'dim', 'dtype', 'pass', 'body', 'repetitions', 'ms_q1', 'ms_median', 'ms_q3',
            'ratio_q1', 'ratio_median', 'ratio_q3', 'peak_extra_bytes', 'qkv_bytes')
    with open(path, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(head)
        for row in rows:
            for name, times in row.times.items():
                writer.writerow([*row.case, row.pass_name, name, len(times), *quartiles(times),
                                 *quartiles(row.ratios(name)), row.peaks.get(name, ''), qkv_bytes(row.case)])
            writer.writerow([*row.case, row.pass_name, FLOOR, '', '', row.floor, *[''] * 5, qkv_bytes(row.case)])
