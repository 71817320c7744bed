"""Plots of a comparison, where matplotlib is installed: quality against time, and bars of every metric."""
import math
import warnings

from diffrwkvir_arch.metrics.tables import direction, label

from .report import median_ms, set_means
from .scoring import first_psnr

SMALLEST, LARGEST = 30, 900  # marker areas, in square points
COLUMNS = 3
# Inches of a character of the names, which stand beside the plots.
CHARACTER = 0.08


def pictures_beside(names):
    """What write_plots writes, without .png, beside the sheets of the sets of these names."""
    return ['scatter', *(f'bars_{name}' for name in names)]


def write_plots(results, methods, sets, settings):
    """Writes scatter.png and bars_SET.png.

    Returns:
        list of str: The files written, or one line that says why there are none.
    """
    for picture in pictures_beside([image_set.name for image_set in sets]):
        (settings.out / f'{picture}.png').unlink(missing_ok=True)    # of an earlier comparison
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return ["no plots: matplotlib is not installed (pip install matplotlib)"]
    written = []

    def save(figure, name):
        with warnings.catch_warnings():
            # Of a name in a script that matplotlib's font lacks; it draws boxes.
            warnings.filterwarnings('ignore', 'Glyph')
            figure.savefig(settings.out / f'{name}.png', dpi=150)
        written.append(f'{name}.png')

    room = CHARACTER * max(map(len, methods))
    found = {image_set.name: means(results, methods, image_set.name, settings.metrics) for image_set in sets}
    qualities = {name: first_psnr(settings.metrics, entries) for name, entries in found.items()}
    drawn = {name: timed(found[name], quality) for name, quality in qualities.items()}
    drawn = {name: entries for name, entries in drawn.items() if entries}
    if drawn:
        figure = Figure(figsize=(6 * len(drawn) + room + 1.5, 4.5), layout='constrained')
        for axes, (name, entries) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn.items()):
            scatter(axes, name, entries, qualities[name])
        add_legend(figure, [entry for entries in drawn.values() for entry in entries])
        save(figure, 'scatter')
    for name, entries in found.items():
        metrics = [metric for metric in (*settings.metrics, *settings.set_metrics)
                   if any(entry.get(metric) is not None for entry in entries)]
        if metrics:
            rows = -(-len(metrics) // COLUMNS)
            figure = Figure(figsize=(3.5 * COLUMNS + room, (0.4 * len(entries) + 1) * rows), layout='constrained')
            figure.suptitle(name)
            # The names stand at the left alone.
            grid = figure.subplots(rows, COLUMNS, squeeze=False, sharey=True).flat
            for axes, metric in zip(grid, metrics):
                bars(axes, entries, metric)
            for axes in grid[len(metrics):]:
                axes.set_axis_off()
            save(figure, f'bars_{name}')
    return written


def means(results, methods, set_name, metrics):
    """One dict for each method that finished the set: method, number, parameters, ms and the mean of each metric.

    What cannot be drawn, such as the infinite PSNR of a perfect image, is None.
    """
    entries = []
    for number, method in enumerate(methods, 1):
        found = results.of(method, set_name)
        if found:
            scores = {name: mean if mean is not None and math.isfinite(mean) else None
                      for name, mean in set_means(results, method, set_name, metrics).items()}
            entries.append({'method': method, 'number': number, 'parameters': results.costs[method]['parameters'],
                            'ms': median_ms(found), **scores})
    return entries


def timed(entries, quality):
    """Those of `means` that have a time and that quality; none where quality is None."""
    return [entry for entry in entries if quality and entry[quality] is not None and entry['ms'] is not None]


def scatter(axes, name, entries, quality):
    """Quality against time, a disc with each method's number whose area shows its parameters."""
    most = max(entry['parameters'] for entry in entries) or 1
    for entry in entries:
        area = SMALLEST + (LARGEST - SMALLEST) * entry['parameters'] / most
        axes.scatter(entry['ms'], entry[quality], s=area, alpha=0.6, color=colour(entry))
        # Above a disc that is too small for it.
        above = max(0, 8 - math.sqrt(area / math.pi))
        axes.annotate(str(entry['number']), (entry['ms'], entry[quality]), xytext=(0, above),
                      textcoords='offset points', fontsize=8, ha='center', va='bottom' if above else 'center')
    axes.set_xscale('log')
    axes.margins(0.25)
    low, high = axes.get_xlim()
    axes.xaxis.set_major_formatter('{x:g}')
    # Numbers between powers of ten where there is room for them.
    axes.xaxis.set_minor_formatter('{x:g}' if high < 30 * low else '')
    axes.set(title=name, xlabel='ms an image (area: parameters)', ylabel=f'{label(quality)} (dB)')
    axes.grid(alpha=0.3, which='both')


def colour(entry):
    return f'C{entry["number"] - 1}'


def add_legend(figure, entries):
    """Says beside the plots which method has which number, and how many parameters."""
    from matplotlib.lines import Line2D
    of_methods = {entry['number']: entry for entry in entries}
    handles = [Line2D([], [], linestyle='', marker='o', alpha=0.6, color=colour(entry),
                      label=f'{number}  {entry["method"]} ({entry["parameters"] / 1e6:.3g} M)')
               for number, entry in sorted(of_methods.items())]
    figure.legend(handles=handles, loc='outside right upper', fontsize=8)


def bars(axes, entries, metric):
    """One metric of every method that has it; the range starts at 0 where that still tells them apart."""
    values = [math.nan if entry[metric] is None else entry[metric] for entry in entries]
    arrows = {'higher': '↑', 'lower': '↓', None: ''}
    drawn = axes.barh([entry['method'] for entry in entries], values)
    axes.bar_label(drawn, ['' if math.isnan(value) else f'{value:.4g}' for value in values], padding=2, fontsize=8)
    axes.set_ylim(len(entries) - 0.5, -0.5)
    axes.set_title(f'{label(metric)} {arrows[direction(metric)]}', fontsize=9)
    found = [value for value in values if not math.isnan(value)]
    low, high = min(found), max(found)
    if low > 0.5 * high > 0:
        axes.set_xlim(low - 0.5 * (high - low) - 0.02 * high, high + 0.25 * (high - low) + 0.02 * high)
    else:
        axes.margins(x=0.2)
