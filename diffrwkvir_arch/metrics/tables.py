"""The paper's tables from results: a line a method, a column a metric of each set, best and second best marked."""
import csv
import io
import math
import numbers

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


def markdown_table(rows):
    """The table for a README: best in bold, second underlined, arrows for the better direction.

    Args:
        rows (list of dict): {'method': 'SwinIR', 'set': 'Set5', 'psnr_y': 32.9, ...}, one for each method and set, in
            the order that the table keeps. A metric whose better direction is not in METRICS gets no marks; a value
            that is missing, None or nan becomes a dash.

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


def latex_table(rows):
    r"""The table for a paper: a `tabular` that needs \usepackage{booktabs}; rows and errors as for markdown_table."""
    methods, columns, values = arrange(rows)
    arrows = {'higher': r' $\uparrow$', 'lower': r' $\downarrow$', None: ''}
    names = list(dict.fromkeys(name for name, _ in columns))
    spans = [sum(name == other for other, _ in columns) for name in names]
    sets = ' & '.join(rf'\multicolumn{{{span}}}{{c}}{{{escape(name)}}}' for name, span in zip(names, spans))
    metrics = ' & '.join(escape(label(metric)) + arrows[direction(metric)] for _, metric in columns)
    body = mark(methods, columns, values, r'\textbf{{{}}}', r'\underline{{{}}}')
    return '\n'.join([
        rf'\begin{{tabular}}{{l{"r" * len(columns)}}}', r'\toprule',
        rf' & {sets} \\', rf'Method & {metrics} \\', r'\midrule',
        *(rf'{escape(method)} & {" & ".join(cells).replace(MISSING, "--")} \\' for method, cells in zip(methods, body)),
        r'\bottomrule', r'\end{tabular}'])


def csv_table(rows):
    """The same for programs: values unrounded and unmarked, missing ones empty; rows as for markdown_table."""
    methods, columns, values = arrange(rows)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow(['method', *(f'{name} {metric}' for name, metric in columns)])
    writer.writerows([method, *(values.get((method, *column), '') for column in columns)] for method in methods)
    return file.getvalue()


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
    """'higher', 'lower' or, for what METRICS does not hold, None."""
    return METRICS.get(known_metric(metric), (None, 3))[0]


def label(metric):
    """psnr_y -> PSNR-Y."""
    return metric.upper().replace('_', '-')


def escape(text):
    """Text with LaTeX's special characters made harmless."""
    special = {'\\': r'\textbackslash{}', '~': r'\textasciitilde{}', '^': r'\textasciicircum{}'}
    return ''.join(special.get(letter, f'\\{letter}' if letter in '&%$#_{}' else letter) for letter in text)
