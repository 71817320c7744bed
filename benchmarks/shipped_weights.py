"""Trains the weights that the package ships, on photographs that scikit-image and matplotlib ship.

    python benchmarks/shipped_weights.py --scale 4
    python benchmarks/shipped_weights.py --scale 4 --sets Set5=Set5/GTmod12:Set5/LRbicx4    # and more scores

DiffRWKVIR-tiny, both stages, through `basicsr train`; the result goes to diffrwkvir_arch/weights/. Two photographs are
held out, astronaut and chelsea, which the demo and the tests measure.
"""
import argparse
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from diffrwkvir_arch.bicubic import imresize_once_rounded
from diffrwkvir_arch.cli import main as basicsr_command
from diffrwkvir_arch.option_checkpoints import SHIPPED_WEIGHTS
from diffrwkvir_arch.toolbox.checkpoints import read_checkpoint, save_whole
from diffrwkvir_arch.toolbox.network_options import ENTRY
from diffrwkvir_arch.tools.call_cost import device_name
from diffrwkvir_arch.tools.demo import HELD_OUT, photograph
from diffrwkvir_arch.tools.pairs import write_lmdb, write_pairs
from diffrwkvir_arch.tools.stages import basicsr
from matplotlib.cbook import get_sample_data

# Those that scikit-image says are in the public domain, CC0, or without known restrictions. That leaves few that are in
# colour, to which matplotlib adds one in the public domain.
PHOTOGRAPHS = ('coffee', 'rocket', 'hubble_deep_field', 'camera', 'brick', 'grass', 'gravel', 'coins', 'retina',
               'immunohistochemistry', 'text', 'cell', 'clock', 'grace_hopper')
LONGEST_SIDE, SIZES, SMALLEST = 768, (1, 0.75, 0.5), 128
LQ_PATCH = {2: 32, 3: 24, 4: 24}


def photograph_of(name):
    """BGR uint8 (H, W, 3)."""
    if name == 'grace_hopper':
        with get_sample_data(f'{name}.jpg') as file:
            return cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR)
    return photograph(name)


def training_images():
    """Name -> BGR uint8 image: every photograph in three sizes, a coloured one also with its channels exchanged."""
    images = {}
    for name in PHOTOGRAPHS:
        image = photograph_of(name)
        fit = min(1, LONGEST_SIDE / max(image.shape[:2]))
        for size in SIZES:
            if size * fit * min(image.shape[:2]) < SMALLEST:
                continue
            smaller = image if size * fit == 1 else imresize_once_rounded(image, size * fit)
            images[f'{name}_{size}'] = smaller
            if (image[..., 0] != image[..., 2]).any():
                images[f'{name}_{size}_turned'] = smaller[..., [1, 2, 0]]
    return images


def train(root, scale, iterations):
    """Both stages in the folder `root`; -> path of the second one's checkpoint."""
    name = 'train_DiffRWKVIR-tiny_{}_' + f'x{scale}'
    checkpoint = str(root / 'experiments' / name / 'models' / 'net_g_latest.pth')
    for stage, count in zip(('S1', 'S2'), iterations):
        force = [f'name={name.format(stage)}', f'scale={scale}', f'network_g:scale={scale}',
                 f'train:total_iter={count}', f'train:scheduler:periods=[{count}]', 'train:ema_decay=0.999',
                 f'datasets:train:dataroot_gt={root}/train/GT.lmdb', f'datasets:train:dataroot_lq={root}/train/LQ.lmdb',
                 f'datasets:train:gt_size={scale * LQ_PATCH[scale]}',
                 f'datasets:val:dataroot_gt={root}/test/GT', f'datasets:val:dataroot_lq={root}/test/LQ',
                 f'val:metrics:psnr:crop_border={scale}', f'val:metrics:ssim:crop_border={scale}',
                 f'val:val_freq={max(count // 10, 1)}', f'logger:save_checkpoint_freq={max(count // 4, 1)}']
        if stage == 'S2':
            force.append(f'path:pretrain_network_s1={checkpoint.format("S1")}')
        basicsr('train', f'train_DiffRWKVIR-tiny_{stage}_demo.yml', root, force, count,
                title=f'x{scale}, stage {stage[1]}: training')
    return checkpoint.format('S2')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--scale', type=int, choices=sorted(LQ_PATCH), required=True)
    parser.add_argument('--iterations', type=int, nargs=2, default=(2500, 5000), metavar=('S1', 'S2'),
                        help='of the two stages (default: %(default)s)')
    parser.add_argument('--sets', nargs='*', default=[], metavar='NAME=GT:LQ',
                        help='test sets beside the held-out photographs')
    parser.add_argument('--out', type=Path, default=Path('results/shipped_weights'), help='default: %(default)s')
    args = parser.parse_args()
    root, start = args.out.resolve() / f'x{args.scale}', time.time()
    write_pairs(training_images(), root / 'train', args.scale, crop=(192, 144))
    for kind in ('GT', 'LQ'):
        write_lmdb(root / 'train' / kind)
    write_pairs({name: photograph(name) for name in HELD_OUT}, root / 'test', args.scale)
    trained = read_checkpoint(train(root, args.scale, args.iterations))
    target = SHIPPED_WEIGHTS / f'DiffRWKVIR-tiny_x{args.scale}.pth'
    save_whole({key: trained[key] for key in (ENTRY, 'params_ema')}, str(target))
    print(f'{target}: {(time.time() - start) / 60:.0f} min, {device_name(torch.device("cpu"))}, '
          f'torch {torch.__version__}')
    sets = [f'held_out={root}/test/GT:{root}/test/LQ', *args.sets]
    return basicsr_command(['compare', '--scale', str(args.scale), '--sets', *sets, '--methods', 'bicubic',
                            f'shipped=options/test_DiffRWKVIR-tiny_S2_x{args.scale}.yml:{target}',
                            '--metrics', 'psnr_y', 'ssim_y', '-o', str(root / 'compare')])


if __name__ == '__main__':
    raise SystemExit(main())
