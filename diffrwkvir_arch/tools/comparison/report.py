"""Results as tables: results.md for people, results.csv with every image, results.json with everything."""
import json
import math
import statistics

import torch

from diffrwkvir_arch.errors import counted
from diffrwkvir_arch.metrics.tables import quality_table

from ..call_cost import device_name
from ..scores import markdown_table, write_csv
from .scoring import applicable, describe
from .set_scoring import remark


def mean_scores(rows, metrics):
    """Name -> mean over the rows for which the metric is defined; None where there is none."""
    means = {}
    for name in metrics:
        values = [row['scores'][name] for row in rows if row['scores'][name] is not None]
        means[name] = statistics.fmean(values) if values else None
    return means


def set_means(results, method, set_name, metrics):
    """mean_scores of a method on a set, and the scores of the set as a whole."""
    return {**mean_scores(results.of(method, set_name), metrics), **results.set_scores.get((method, set_name), {})}


def median_ms(rows):
    """None where no time was measured."""
    times = [row['ms'] for row in rows if row['ms'] is not None]
    return statistics.median(times) if times else None


def peak_mb(rows):
    """The largest of all rows; None where memory was not measured."""
    return max((row['peak_mb'] for row in rows if row['peak_mb'] is not None), default=None)


def write_tables(results, methods, sets, settings, remarks):
    """Writes results.md, .csv and .json.

    Args:
        results (Results), settings (Settings).
        methods (list of str), sets (list of ImageSet): In the order of the tables.
        remarks (list of str): Such as which metrics were left out.

    Returns:
        str: results.md.
    """
    text = markdown(results, methods, sets, settings, remarks)
    (settings.out / 'results.md').write_text(text + '\n', encoding='utf-8')
    rows = [{'method': row['method'], 'set': row['set'], 'image': row['image'],
             **{name: row['scores'][name] for name in settings.metrics}, 'ms': row['ms'], 'peak_mb': row['peak_mb']}
            for row in results.rows]
    # An earlier comparison's would not be this one's.
    (settings.out / 'results.csv').unlink(missing_ok=True)
    if rows:
        write_csv(rows, settings.out / 'results.csv')
    (settings.out / 'results.json').write_text(
        json.dumps(as_json(results, methods, sets, settings, rows, remarks), indent=1, ensure_ascii=False) + '\n',
        encoding='utf-8')
    return text


def markdown(results, methods, sets, settings, remarks):
    lines = [f'# Comparison, x{settings.scale}', '', *(f'- {line}' for line in conditions(settings)),
             *(f'- {line}' for line in remarks), '']
    for image_set in sets:
        metrics = applicable(settings.metrics, image_set.has_masks)
        rows = [{'method': marked(method, results), 'set': image_set.name,
                 **set_means(results, method, image_set.name, metrics)} for method in methods]
        lines += [f'## {image_set.name}', '', f'{counted(len(image_set), "image")}; {image_set.how}.', '',
                  quality_table(rows), '']
        lines += missing_values(results, image_set, settings)
        if settings.set_metrics:
            lines += [f'- {remark(settings.set_metrics, len(image_set))}', '']
    lines += ['## Cost', '', markdown_table(cost_rows(results, methods, sets)), '']
    notes = [f'{method}: {note}' for method in methods for note in cost_notes(results.costs.get(method, {}))]
    lines += [*(f'- {note}' for note in notes), ''] if notes else []
    if results.failures:
        lines += ['## Failed', '', *(f'- {line}' for line in failure_lines(results)), '']
    return '\n'.join(lines).rstrip()


def marked(method, results):
    """A method's name with what sets it apart from the others of a table."""
    marks = ['reads its prior from the GT'] if results.costs.get(method, {}).get('reads_gt') else []
    marks += ['failed'] if any(method == failed for failed, _ in results.failures) else []
    return f'{method} ({", ".join(marks)})' if marks else method


def conditions(settings):
    """What holds for all methods, a line each."""
    height, width = settings.input_size
    lines = [f'Device: {device_name(settings.device)}; torch {torch.__version__}']
    runs = f'median of {settings.repeats} runs' if settings.repeats > 1 else 'one run'
    lines += [f'Time: {runs} an image after a warm-up, median over the images of a set',
              f'FLOPs: of one LQ of 3 x {height} x {width} (C x H x W), 2 for a multiply-add']
    if settings.device.type == 'cuda':
        lines.append("Memory: the most that PyTorch's allocator held at once, the network's weights included")
    if settings.tile:
        lines.append(f'Larger LQs in tiles of {settings.tile} pixels that share {settings.overlap}')
    if settings.self_ensemble:
        lines.append('Self-ensemble: of every method the mean over eight flips and turns of the LQ; FLOPs are of one')
    return [*lines, describe(settings.scale)]


def missing_values(results, image_set, settings):
    """Lines on metrics that are not defined on every image."""
    counts = {}
    for row in results.rows:
        if row['set'] == image_set.name:
            for name in settings.metrics:
                counts.setdefault(name, {}).setdefault(row['method'], []).append(row['scores'][name] is not None)
    lines = [f'{name}: mean over the {counted(min(map(sum, found.values())), "image")} of {len(image_set)} on which '
             'it is defined' for name, found in counts.items() if 0 < min(map(sum, found.values())) < len(image_set)
             and all(len(flags) == len(image_set) for flags in found.values())]
    return [*(f'- {line}' for line in lines), ''] if lines else []


def cost_rows(results, methods, sets):
    """One row a method: parameters, FLOPs, time on each set, memory; columns that nobody fills are left out."""
    rows = []
    for method in methods:
        cost = results.costs.get(method, {})
        row = {'Method': method,
               'Parameters (M)': '–' if cost.get('parameters') is None else f'{cost["parameters"] / 1e6:.4g}',
               'FLOPs (G)': f'{cost["flops"] / 1e9:.4g}' if cost.get('flops') else '–'}
        for image_set in sets:
            ms = median_ms(results.of(method, image_set.name))
            row[f'{image_set.name} (ms)'] = '–' if ms is None else f'{ms:.4g}'
        peak = peak_mb([found for image_set in sets for found in results.of(method, image_set.name)])
        row['Memory (MB)'] = '–' if peak is None else f'{peak:.0f}'
        rows.append(row)
    return [{key: row[key] for key in row if key == 'Method' or any(other[key] != '–' for other in rows)}
            for row in rows]


def cost_notes(cost):
    """Lines on one method beyond its row."""
    notes = [cost['note']] if cost.get('note') else []
    if cost.get('uncounted'):
        notes.append(f'FLOPs leave out {", ".join(cost["uncounted"])}')
    return notes


def failure_lines(results):
    """'METHOD on SET: reason', a line each."""
    return [f'{method}{f" on {name}" if name else ""}: {reason}' for (method, name), reason in results.failures.items()]


def as_json(results, methods, sets, settings, rows, remarks):
    """Everything, in what JSON can hold: an infinite PSNR becomes the text 'inf'."""

    def plain(values):
        return {name: str(value) if isinstance(value, float) and math.isinf(value) else value
                for name, value in values.items()}

    means = []
    for image_set in sets:
        for method in methods:
            found = results.of(method, image_set.name)
            means.append({'method': method, 'set': image_set.name, 'images': len(found),
                          **plain(set_means(results, method, image_set.name, settings.metrics)),
                          'ms': median_ms(found),
                          'peak_mb': peak_mb(found)})
    return {
        'scale': settings.scale, 'device': device_name(settings.device), 'torch': torch.__version__,
        'input_size': list(settings.input_size), 'tile': settings.tile, 'overlap': settings.overlap,
        'repeats': settings.repeats, 'self_ensemble': settings.self_ensemble,
        'metrics': settings.metrics, 'set_metrics': settings.set_metrics, 'remarks': remarks,
        'sets': [{'name': image_set.name, 'images': len(image_set), 'lq': image_set.how} for image_set in sets],
        'methods': [{'name': method, **results.costs.get(method, {})} for method in methods],
        'means': means, 'images': [plain(row) for row in rows],
        'failures': [{'method': method, 'set': name, 'reason': reason}
                     for (method, name), reason in results.failures.items()],
    }
