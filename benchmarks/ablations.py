"""What each part of DiffRWKVIR is worth, x4: Table 5 of the paper on a small network, from the switches of network_g.

    python benchmarks/ablations.py --data datasets/DIV2K/HR --sets Set5=datasets/Set5/GTmod12:datasets/Set5/LRbicx4

Token shift, mixer, feed-forward part, scan and diffusion steps, one changed at a time, trained in both stages by the
protocol of equal_budget.py. A difference to the default counts only where it is larger than what another seed changes.

Without its prior the restorer trains alone, in one stage. Scan directions are four (omni), one of the four for each
head (split) and one (1d); there is no switch for other numbers.
"""
from study import without_prior  # noqa: F401  registers WithoutPrior
from study.campaign import carry_out
from study.command import arguments, complain, study_of
from study.methods import DIFFRWKVIR, DIFFRWKVIR_KD, DIFFRWKVIR_SECOND, choose, one_stage, two_stages
from study.report import HEADINGS, by_method, cost_cells, set_means, with_range, write_report

DEFAULT = 'default'
# Variant -> options that differ from the default's.
SWITCHES = {
    DEFAULT: {},
    'shift-quad': {'shift': 'quad'}, 'shift-uni': {'shift': 'uni'},
    'mixer-attention': {'mixer': 'attention'}, 'mixer-resnet': {'mixer': 'resnet'}, 'mixer-rwkv': {'mixer': 'rwkv'},
    'ffn-mlp_relu': {'ffn': 'mlp_relu'}, 'ffn-mlp_gelu': {'ffn': 'mlp_gelu'}, 'ffn-gated_mlp': {'ffn': 'gated_mlp'},
    'scan-split': {'scan': 'split'}, 'scan-1d': {'scan': '1d'},
    'steps-4': {'steps': 4}, 'steps-10': {'steps': 10}, 'steps-20': {'steps': 20},
}
SECOND_ONLY = tuple(DIFFRWKVIR_SECOND)
SAME = '≈'


def variant(switches):
    """The stages of DiffRWKVIR with other options."""
    both = {key: value for key, value in switches.items() if key not in SECOND_ONLY}
    second = {key: value for key, value in switches.items() if key in SECOND_ONLY}
    return two_stages('DiffRWKVIR', {**DIFFRWKVIR, **both}, {**DIFFRWKVIR_SECOND, **second}, DIFFRWKVIR_KD)


VARIANTS = {name: variant(switches) for name, switches in SWITCHES.items()}
VARIANTS['prior-off'] = one_stage({
    'type': 'WithoutPrior', **{key: value for key, value in DIFFRWKVIR.items() if key != 'encoder_dim'}})


def difference(values, default):
    """'+0.12', or '-0.03 ≈' where the seeds alone make as much of a difference.

    Args:
        values, default (list of float): PSNR of a variant and of the default, one for each seed.

    Returns:
        str: The difference of the means; marked where it is no larger than the range of either over its seeds, and with
        '?' where neither has more than one.
    """
    change = sum(values) / len(values) - sum(default) / len(default)
    if len(values) == len(default) == 1:
        return f'{change:+.2f} ?'
    spread = max(max(values) - min(values), max(default) - min(default))
    return f'{change:+.2f}' + (f' {SAME}' if abs(change) <= spread else '')


def ablation_rows(outcome, budget):
    """The rows of a table: PSNR on each set with its range over the seeds, and the difference to the default."""
    found = by_method(outcome, budget)
    means = {name: [set_means(run) for run in runs] for name, runs in found.items()}
    rows = []
    for name, runs in found.items():
        row = {'variant': name, **cost_cells(outcome.costs[name], runs)}
        for set_name in means[name][0]:
            psnr = {method: [mean[set_name]['psnr_y'] for mean in means[method]] for method in (name, DEFAULT)
                    if method in means}
            row[f'{set_name} PSNR'] = with_range(psnr[name], 2)
            row['to the default' if len(means[name][0]) == 1 else f'{set_name} to the default'] = (
                difference(psnr[name], psnr[DEFAULT]) if DEFAULT in psnr and name != DEFAULT else '')
            row[f'{set_name} SSIM'] = with_range([mean[set_name]['ssim_y'] for mean in means[name]], 4)
        rows.append(row)
    return rows


def main(argv=None):
    args = arguments(__doc__, VARIANTS, ['iterations'], 'results/ablations').parse_args(argv)
    study = study_of(args, choose(VARIANTS, args.methods), {}, tolerance=None)
    outcome = carry_out(study)
    notes = [
        'default: omni shift, ttt mixer, cab feed-forward, omni scan, '
        f'{DIFFRWKVIR_SECOND["steps"]} diffusion steps; every other row changes one switch.',
        f'{SAME}: no larger than the range over the seeds of the variant or of the default; ?: one seed, no range.',
        'prior-off: the restorer alone in one stage, which sees nothing but the LQ from the first iteration on.',
        'Left out, for want of a switch in network_g: other numbers of scan directions than 4 (omni), one of the 4 for '
        'each head (split) and 1 (1d).']
    tables = [(HEADINGS[budget], ablation_rows(outcome, budget)) for budget in args.budgets]
    write_report(study, outcome, 'Ablations of DiffRWKVIR', tables, notes)
    return 1 if outcome.failures or outcome.interrupted else 0


if __name__ == '__main__':
    raise SystemExit(complain(main))
