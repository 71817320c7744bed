"""Trains a small DiffRWKVIR, both stages, on a folder of photographs and tests it on Set5 and Set14 (x4).

    python benchmarks/small_sr.py --data DIR

DIR/train/ holds photographs (searched with its subfolders), DIR/benchmark/SET/GTmod12/ and
DIR/benchmark/SET/LR_bicubic/X4/ the pairs of Set5 and Set14, same names on both sides. Everything runs through
`basicsr train` and `basicsr test`.
"""
import argparse
import time
from pathlib import Path

import torch
from diffrwkvir_arch.bicubic import imresize_once_rounded
from diffrwkvir_arch.tools.call_cost import device_name
from diffrwkvir_arch.tools.pairs import write_lmdb, write_pairs
from diffrwkvir_arch.tools.scores import markdown_table, mean_rows, read_image, score, write_csv
from diffrwkvir_arch.tools.stages import basicsr

SCALE, SETS, SMALLEST = 4, ('Set5', 'Set14'), 128


def photographs(folder):
    """Name -> BGR uint8 image of every photograph below `folder` whose sides are at least SMALLEST pixels."""
    files = sorted(path for path in folder.rglob('*') if path.suffix.lower() in ('.png', '.jpg', '.jpeg'))
    images = {'_'.join(path.relative_to(folder).with_suffix('').parts): read_image(path) for path in files}
    return {name: image for name, image in images.items() if min(image.shape[:2]) >= SMALLEST}


def pair_folders(data, name):
    """GT and LQ folder of a benchmark set."""
    folder = data / 'benchmark' / name
    return folder / 'GTmod12', folder / 'LR_bicubic' / f'X{SCALE}'


def train_and_test(root, data, iterations):
    """Both stages; -> (method, set) -> folder of restored images and the suffix of their names."""
    restored = {}
    val_gt, val_lq = pair_folders(data, SETS[0])
    for stage, count in zip(('S1', 'S2'), iterations):
        force = [f'train:total_iter={count}', f'train:scheduler:periods=[{count}]', 'train:ema_decay=0.999',
                 f'datasets:train:dataroot_gt={root}/pairs/GT.lmdb', f'datasets:train:dataroot_lq={root}/pairs/LQ.lmdb',
                 f'datasets:val:dataroot_gt={val_gt}', f'datasets:val:dataroot_lq={val_lq}', 'datasets:val:name=Set5',
                 f'val:val_freq={max(count // 10, 1)}', f'logger:save_checkpoint_freq={max(count // 2, 1)}']
        basicsr('train', f'train_DiffRWKVIR-tiny_{stage}_demo.yml', root, force, count,
                title=f'stage {stage[1]}: training')
        for name in SETS:
            gt, lq = pair_folders(data, name)
            test = f'test_DiffRWKVIR-tiny_{stage}_{name}'
            basicsr('test', f'test_DiffRWKVIR-tiny_{stage}_demo.yml', root,
                    [f'name={test}', f'datasets:test:name={name}', f'datasets:test:dataroot_gt={gt}',
                     f'datasets:test:dataroot_lq={lq}'], title=f'stage {stage[1]}: {name}')
            restored[f'stage{stage[1]}', name] = (root / 'results' / test / 'visualization' / name, test)
    return restored


def evaluate(data, restored):
    """Rows of set, image, method, psnr_y and ssim_y for bicubic and both stages."""
    rows = []
    for name in SETS:
        gt_folder, lq_folder = pair_folders(data, name)
        for path in sorted(gt_folder.glob('*.png')):
            gt = read_image(path)
            images = {'bicubic': imresize_once_rounded(read_image(lq_folder / path.name), SCALE)}
            for method in ('stage1', 'stage2'):
                folder, suffix = restored[method, name]
                images[method] = read_image(folder / f'{path.stem}_{suffix}.png')
            rows += [{'set': name, 'image': path.stem, 'method': method, **score(image, gt, SCALE)}
                     for method, image in images.items()]
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, required=True, help='folder of train/ and benchmark/')
    parser.add_argument('--out', type=Path, default=Path('results/small_sr'), help='default: %(default)s')
    parser.add_argument('--iterations', type=int, nargs=2, default=(4500, 3000), metavar=('S1', 'S2'),
                        help='of the two stages (default: %(default)s)')
    parser.add_argument('--report', type=Path, help='Markdown file for the table; per-image scores go beside it as CSV')
    args = parser.parse_args()
    data, root, start = args.data.resolve(), args.out.resolve(), time.time()
    for folder in (data / 'train', *(folder for name in SETS for folder in pair_folders(data, name))):
        if not folder.is_dir():
            parser.error(f'--data: {folder} does not exist')
    images = photographs(data / 'train')
    write_pairs(images, root / 'pairs', SCALE, crop=(192, 144))
    for kind in ('GT', 'LQ'):
        write_lmdb(root / 'pairs' / kind)
    prepared = time.time()
    rows = evaluate(data, train_and_test(root, data, args.iterations))
    report = '\n'.join([
        f'DiffRWKVIR-tiny x{SCALE}, {len(images)} photographs, {args.iterations[0]} + {args.iterations[1]} iterations '
        f'of 8 patches of 24x24 LQ pixels. Y channel, {SCALE} pixels of border left out.',
        'Stage 1 reads its prior from LQ and GT, which no method may; stage 2 goes on from its restorer and sees the '
        'LQ alone.', '',
        markdown_table(mean_rows(rows, ('set', 'method'))), '',
        f'{(prepared - start) / 60:.1f} min preparation, {(time.time() - prepared) / 60:.1f} min training and testing; '
        f'{device_name(torch.device("cpu"))}, torch {torch.__version__}.', ''])
    print('\n' + report)
    target = args.report or root / 'table.md'
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(report, encoding='utf-8')
    write_csv(rows, target.with_suffix('.csv'))


if __name__ == '__main__':
    main()
