"""Tables of a study: means over the seeds with their range, and what the reader must know beside them."""
import torch

from diffrwkvir_arch.tools.call_cost import device_name
from diffrwkvir_arch.tools.scores import markdown_table, mean_rows, write_csv

from .curves import write_curves
from .methods import SCALE
from .scoring import bicubic_rows
from .sizes import LQ_SIDE

HEADINGS = {'iterations': 'The same iterations', 'time': 'The same training time'}
DIGITS = {'psnr_y': 2, 'ssim_y': 4}


def set_means(result):
    """Set -> mean psnr_y and ssim_y over its images."""
    return {row['set']: row for row in mean_rows(result['scores'], ('set', ))}


def with_range(values, digits):
    """'30.12 (30.05..30.20)'; the mean alone where all values are printed alike."""
    low, mean, high = (f'{value:.{digits}f}' for value in (min(values), sum(values) / len(values), max(values)))
    return mean if low == high else f'{mean} ({low}..{high})'


def by_method(outcome, budget):
    """Method -> its finished results of a budget."""
    found = {}
    for result in outcome.results:
        if result['budget'] == budget:
            found.setdefault(result['method'], []).append(result)
    return found


def score_cells(runs):
    """'SET PSNR' and 'SET SSIM' -> text, over runs of different seeds."""
    means = [set_means(run) for run in runs]
    return {f'{name} {"PSNR" if metric == "psnr_y" else "SSIM"}': with_range([mean[name][metric] for mean in means],
                                                                             digits)
            for name in means[0] for metric, digits in DIGITS.items()}


def cost_cells(cost, runs):
    """Size, seeds and training of a method."""
    iterations = [sum(run['iterations']) for run in runs]
    seconds = [sum(run['seconds']) for run in runs]
    return {'M parameters': f'{cost["parameters"] / 1e6:.3f}', 'GFLOP': f'{cost["flops"] / 1e9:.2f}',
            'seeds': str(len(runs)), 'iterations': with_range(iterations, 0), 'training s': with_range(seconds, 0)}


def budget_rows(study, outcome, budget):
    """The rows of a table: bicubic, then every method that finished at least one run."""
    found = by_method(outcome, budget)
    if not found:
        return []
    rows = [{'method': name, **cost_cells(outcome.costs[name], runs), **score_cells(runs)}
            for name, runs in found.items()]
    floor = {**dict.fromkeys(rows[0], ''), 'method': 'bicubic', **score_cells([{'scores': bicubic_rows(study.images)}])}
    return [floor, *rows]


def fed_alike(outcome, budget):
    """Whether all runs of a seed were fed the same batches; each has its own number of them under equal time."""
    fed = {}
    for result in outcome.results:
        if result['budget'] == budget:
            fed.setdefault(result['seed'], set()).add(result['fed'])
    return all(len(checksums) == 1 for checksums in fed.values())


def conditions(study, outcome):
    """Sentences on what was compared, and how."""
    patches = study.patches
    lines = [
        f'x{SCALE}, {len(patches.pairs)} photographs, LQs by {study.degradation}. With the same seed, which also '
        f'initialises it, every method sees the same batches of {patches.batch} patches of '
        f'{patches.size}x{patches.size} LQ pixels in the same order.',
        f'Adam, learning rate {study.learning_rate:g}, a cosine down to a hundredth of it, clipped gradients, L1.',
        f'Y channel, {SCALE} pixels of border left out: mean over the seeds (smallest..largest). GFLOP for '
        f'{LQ_SIDE}x{LQ_SIDE} LQ pixels, a multiply-add taken as two. Training time is that of the steps alone.',
        f'{device_name(study.device)}, torch {torch.__version__}.']
    if any(len(stages) == 2 for stages in study.methods.values()):
        lines.append(f'Methods with two stages spend {study.stage1_share:.0%} of their budget on the first. Their '
                     'curves begin with the second, because the first sees the GT. Parameters and GFLOP: the second.')
    lines += [f'{name} may be larger: {reason}.' for name, reason in study.larger.items() if name in outcome.costs]
    lines += [f'{name}: not in GFLOP, for want of a formula: {", ".join(cost["uncounted"])}.'
              for name, cost in outcome.costs.items() if cost['uncounted']]
    return lines


def checked(outcome):
    """What the checksums of the batches say about the runs of equal iterations."""
    if not by_method(outcome, 'iterations'):
        return []
    if fed_alike(outcome, 'iterations'):
        return ['Checked: with the same iterations all methods of a seed were fed the same batches.']
    return ['**Not equal: with the same iterations methods of one seed were fed different batches.**']


def write_report(study, outcome, title, tables, notes=()):
    """Writes report.md, scores.csv, curves.csv and, with matplotlib, curves_*.png to study.out; prints the report.

    Args:
        tables (list of tuple): Heading and rows of each table; those without rows are left out.
        notes (list of str): Go below the conditions.
    """
    text = [f'# {title}', '', *(f'- {line}' for line in (*conditions(study, outcome), *checked(outcome), *notes)), '']
    for heading, rows in tables:
        if rows:
            text += [f'## {heading}', '', markdown_table(rows), '']
    if outcome.failures:
        text += ['## Failed', '', *(f'- {failure}' for failure in outcome.failures), '']
    if outcome.missing:
        text += [f'Runs that are not finished: {outcome.missing}.', '']
    if outcome.interrupted:
        text += ['Interrupted: runs are missing.', '']
    if outcome.results:
        write_csv([{**{key: result[key] for key in ('budget', 'method', 'seed')}, **row}
                   for result in outcome.results for row in result['scores']], study.out / 'scores.csv')
        text += write_curves(outcome.results, study.images[0].set, study.out)
    report = '\n'.join(text)
    (study.out / 'report.md').write_text(report, encoding='utf-8')
    print('\n' + report)
