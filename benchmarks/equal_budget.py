"""Super-resolution networks of about one size with one budget, x4: the same patches, and the same iterations or time.

    python benchmarks/equal_budget.py --data datasets/DIV2K/HR \\
        --sets Set5=datasets/Set5/GTmod12:datasets/Set5/LRbicx4 Set14=datasets/Set14/GTmod12:datasets/Set14/LRbicx4

EDSR, RCAN, SwinIR, HAT, MambaIR, MambaIRv2, DiffIR and DiffRWKVIR (study/methods.py), bicubic as the floor. First
prints how long it will take. Ctrl-C loses nothing and a kill two minutes: the same command continues. --out holds
report.md, scores.csv, curves.csv and plots, and the weights of every run.

The networks are small and the training is short: the tables say which learns more from little, not which is better when
trained to its end. DiffRWKVIR and DiffIR add to an enlarged LQ. The other networks, as their authors define them, first
have to learn to enlarge it, which shows in a short training: here they get it too, unless --no-base-image is said.
Equal time means something on a machine that does nothing else.
"""
import argparse

from study.base_image import with_base_image
from study.campaign import carry_out
from study.command import PRESETS, arguments, complain, study_of
from study.methods import LARGER, METHODS, TOLERANCE, choose, for_patches
from study.planning import BUDGETS
from study.report import HEADINGS, budget_rows, write_report

BASE_IMAGE = ('DiffRWKVIR adds to the bicubically enlarged LQ and DiffIR to the LQ with repeated pixels. The other '
              'networks have to learn to enlarge, except as NAME+base, which adds to the bicubically enlarged LQ.')


def main(argv=None):
    parser = arguments(__doc__, METHODS, list(BUDGETS), 'results/equal_budget')
    parser.add_argument('--any-size', action='store_true',
                        help=f'allow methods more than {TOLERANCE:.0%}% from the mean number of parameters')
    parser.add_argument('--base-image', action=argparse.BooleanOptionalAction, default=True,
                        help='let all networks add to an enlarged LQ; those that otherwise do not are called NAME+base '
                        '(default: yes)')
    args = parser.parse_args(argv)
    methods = for_patches(choose(METHODS, args.methods), PRESETS[args.scale].patch)
    if args.base_image:
        methods = with_base_image(methods)
    study = study_of(args, methods, LARGER, None if args.any_size else TOLERANCE)
    outcome = carry_out(study)
    tables = [(HEADINGS[budget], budget_rows(study, outcome, budget)) for budget in args.budgets]
    write_report(study, outcome, 'Equal budgets', tables, [BASE_IMAGE])
    return 1 if outcome.failures or outcome.interrupted else 0


if __name__ == '__main__':
    raise SystemExit(complain(main))
