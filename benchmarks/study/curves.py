"""PSNR in the course of training, against iterations and against seconds: as CSV, and drawn with matplotlib."""
from diffrwkvir_arch.tools.scores import write_csv

AXES = {'iteration': 'iterations', 'seconds': 'seconds of training'}


def write_curves(results, set_name, folder):
    """Writes curves.csv and curves_BUDGET.png.

    Args:
        results (list of dict): Finished runs, with method, seed and budget.
        set_name (str): The set that curves are measured on.
        folder (Path): Where to.

    Returns:
        list of str: A line that says why nothing was drawn, or none.
    """
    write_csv([{**{key: result[key] for key in ('budget', 'method', 'seed')}, **point}
               for result in results for point in result['curve']], folder / 'curves.csv')
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return ['curves.csv is not drawn: matplotlib is not installed (pip install matplotlib).', '']
    for budget in {result['budget']: None for result in results}:
        figure = Figure(figsize=(11, 4.5), layout='constrained')
        for axes, key in zip(figure.subplots(1, 2), AXES):
            draw(axes, [result for result in results if result['budget'] == budget], key)
            axes.set(xlabel=AXES[key], ylabel=f'{set_name} PSNR, Y (dB)')
            axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
        figure.savefig(folder / f'curves_{budget}.png', dpi=150)
    return []


def draw(axes, results, key):
    """A colour for each method, a line for each seed."""
    methods = list(dict.fromkeys(result['method'] for result in results))
    labelled = set()
    for result in results:
        name = result['method']
        axes.plot([point[key] for point in result['curve']], [point['psnr_y'] for point in result['curve']], marker='.',
                  linewidth=1, color=f'C{methods.index(name)}', label=None if name in labelled else name)
        labelled.add(name)
