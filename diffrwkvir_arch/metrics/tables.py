"""The paper's tables from results: a line a method, a column a metric of each set, best and second best marked."""
import math
import numbers

from basicsr.utils.registry import METRIC_REGISTRY

from diffrwkvir_arch.errors import InputError

# Metric -> which way is better, decimals. A name such as psnr_y, lpips_alex or hole_psnr counts by the metric in it.
METRICS = {
    'psnr': ('higher', 2),
    'ssim': ('higher', 4),
    'rmse': ('lower', 3),
    'sam': ('lower', 3),
    'lpips': ('lower', 4),
    'niqe': ('lower', 3),
    'fid': ('lower', 3),
    'kid': ('lower', 5),
}
MISSING = '–'


def quality_table(rows):
    """The table for a README: best in bold, second underlined, arrows for the better direction.

    Args:
        rows (list of dict): {'method': 'SwinIR', 'set': 'Set5', 'psnr_y': 32.9, ...}, one for each method and set, in
            the order that the table keeps. A metric whose better direction is not known gets no marks; a value that
            is missing, None or nan becomes a dash.

    Returns:
        str: Lines without a final newline.

    Raises:
        InputError: No rows, a row without method or set, a value that is no number, or two rows for one method and set.
    """
    methods, columns, values = arrange(rows)
    arrows = {'higher': ' ↑', 'lower': ' ↓', None: ''}
    head = ['Method', *(f'{name} {label(metric)}{arrows[direction(metric)]}' for name, metric in columns)]
    body = mark(methods, columns, values, '**{}**', '<u>{}</u>')
    lines = [head, ['---'] + ['---:'] * len(columns), *([method, *cells] for method, cells in zip(methods, body))]
    return '\n'.join('| ' + ' | '.join(text.replace('|', '\\|') for text in line) + ' |' for line in lines)


def arrange(rows):
    """-> methods, columns (set, metric) as lists, and {(method, set, metric): number} without the missing ones."""
    if not rows:
        raise InputError('there are no results to make a table of')
    methods, sets, metrics, columns, values, seen = {}, {}, {}, set(), {}, set()
    for row in rows:
        if not {'method', 'set'} <= row.keys():
            raise InputError(f"a row of results needs 'method' and 'set', got {row}")
        method, name = str(row['method']), str(row['set'])
        if (method, name) in seen:
            raise InputError(f'two rows of results for {method} on {name}')
        seen.add((method, name))
        methods[method] = sets[name] = None
        for metric, value in row.items():
            if metric in ('method', 'set'):
                continue
            metrics[metric] = None
            columns.add((name, metric))
            if not isinstance(value, (numbers.Real, type(None))):
                raise InputError(f'{metric} of {method} on {name} must be a number or None, got {value!r}')
            if value is not None and not math.isnan(value):
                values[method, name, metric] = value
    # A metric that no row of a set names makes no column of that set.
    return list(methods), [(name, metric) for name in sets for metric in metrics if (name, metric) in columns], values


def mark(methods, columns, values, best, second):
    """Cells as text, a list for each method: best and second best of a column, as printed, in the given formats."""
    cells = [[MISSING] * len(columns) for _ in methods]
    for j, (name, metric) in enumerate(columns):
        decimals = METRICS.get(known_metric(metric), (None, 3))[1]
        found = {i: values.get((method, name, metric)) for i, method in enumerate(methods)}
        texts = {i: str(value) if isinstance(value, numbers.Integral) else f'{value:.{decimals}f}'
                 for i, value in found.items() if value is not None}
        # What prints alike is marked alike.
        ranking = sorted(set(texts.values()), key=float, reverse=direction(metric) == 'higher')
        formats = dict(zip(ranking, (best, second))) if direction(metric) and len(texts) > 1 else {}
        for i, text in texts.items():
            cells[i][j] = formats.get(text, '{}').format(text)
    return cells


def known_metric(metric):
    """'lpips' of 'lpips_alex', None of what METRICS does not hold."""
    return next((word for word in metric.lower().split('_') if word in METRICS), None)


def direction(metric):
    """'higher' or 'lower', as the registered function says by its attribute `better`, or else METRICS; or None."""
    for name in (metric, f'calculate_{metric}'):
        if name in METRIC_REGISTRY and hasattr(METRIC_REGISTRY.get(name), 'better'):
            return METRIC_REGISTRY.get(name).better
    return METRICS.get(known_metric(metric), (None, 3))[0]


def label(metric):
    """psnr_y -> PSNR-Y."""
    return metric.upper().replace('_', '-')
