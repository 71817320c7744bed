"""What each part of DiffRWKVIR is worth, x4: Table 5 of the paper on a small network, from the switches of network_g.

    python benchmarks/ablations.py --data datasets/DIV2K/HR --sets Set5=datasets/Set5/GTmod12:datasets/Set5/LRbicx4

Token shift, mixer, feed-forward part, scan and diffusion steps, one changed at a time, trained in both stages by the
protocol of equal_budget.py. With one seed all variants start alike, as far as they can, and see the same batches: so
differences to the default are taken seed by seed, and count where all of them have one sign.

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
    'type': 'WithoutPrior',
    **{key: value for key, value in DIFFRWKVIR.items() if not key.startswith('encoder_')}})


def difference(values, default):
    """'+0.12 (+0.09..+0.15)', or '+0.01 (-0.02..+0.03) ≈' where it depends on the seed which is better.

    Args:
        values, default (dict): Seed -> PSNR of a variant, and of the default.

    Returns:
        str: The mean difference over the seeds of both and its range; '?' marks that of a single seed. Empty without.
    """
    changes = [values[seed] - default[seed] for seed in values if seed in default]
    if not changes:
        return ''
    mean = sum(changes) / len(changes)
    if len(changes) == 1:
        return f'{mean:+.2f} ?'
    differs = min(changes) < 0 < max(changes)
    return f'{mean:+.2f} ({min(changes):+.2f}..{max(changes):+.2f})' + (f' {SAME}' if differs else '')


def ablation_rows(outcome, budget):
    """The rows of a table: PSNR on each set with its range over the seeds, and the difference to the default."""
    found = by_method(outcome, budget)
    means = {name: {run['seed']: set_means(run) for run in runs} for name, runs in found.items()}
    rows = []
    for name, runs in found.items():
        row = {'variant': name, **cost_cells(outcome.costs[name], runs)}
        set_names = set_means(runs[0])
        for set_name in set_names:
            def by_seed(method, metric):
                return {seed: mean[set_name][metric] for seed, mean in means.get(method, {}).items()}

            psnr = by_seed(name, 'psnr_y')
            row[f'{set_name} PSNR'] = with_range(psnr.values(), 2)
            row['to the default' if len(set_names) == 1 else f'{set_name} to the default'] = (
                '' if name == DEFAULT else difference(psnr, by_seed(DEFAULT, 'psnr_y')))
            row[f'{set_name} SSIM'] = with_range(by_seed(name, 'ssim_y').values(), 4)
        rows.append(row)
    return rows


def main(argv=None):
    args = arguments(__doc__, VARIANTS, ['iterations'], 'results/ablations').parse_args(argv)
    study = study_of(args, choose(VARIANTS, args.methods), {}, tolerance=None)
    outcome = carry_out(study)
    notes = [
        'default: omni shift, ttt mixer, cab feed-forward, omni scan, '
        f'{DIFFRWKVIR_SECOND["steps"]} diffusion steps; every other row changes one switch.',
        'Differences to the default: mean and range of those with equal seeds, which start alike and see the same '
        f'batches. {SAME}: of either sign; ?: one seed.',
        'prior-off: the restorer alone in one stage, which sees nothing but the LQ from the first iteration on.',
        'Left out, for want of a switch in network_g: other numbers of scan directions than 4 (omni), one of the 4 for '
        'each head (split) and 1 (1d).']
    tables = [(HEADINGS[budget], ablation_rows(outcome, budget)) for budget in args.budgets]
    write_report(study, outcome, 'Ablations of DiffRWKVIR', tables, notes)
    return 1 if outcome.failures or outcome.interrupted else 0


if __name__ == '__main__':
    raise SystemExit(complain(main))
