"""Trains the weights that the package ships, on photographs that scikit-image and matplotlib ship.

    python benchmarks/shipped_weights.py --scale 4
    python benchmarks/shipped_weights.py --scale 4 --sets Set5=Set5/GTmod12:Set5/LRbicx4    # and more scores
    python benchmarks/shipped_weights.py --scale 4 --real    # for noisy, compressed photographs

DiffRWKVIR-tiny, both stages, through `basicsr train`; the result goes to diffrwkvir_arch/weights/. Two photographs are
held out, astronaut and chelsea, which the demo and the tests measure.
"""
import argparse
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import yaml
from diffrwkvir_arch.bicubic import imresize_once_rounded
from diffrwkvir_arch.cli import main as basicsr_command
from diffrwkvir_arch.option_file import SHIPPED_WEIGHTS
from diffrwkvir_arch.toolbox.checkpoints import read_checkpoint, write_whole
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
# Sides and distances of the pieces that patches are cropped from; degradations look further than bicubic.
CROP, REAL_CROP = (192, 144), (320, 240)
# Real-ESRGAN's, milder: made for the worst photographs, a small network without a GAN would smooth all of them.
REAL = ('{type: real_esrgan, resize_range: [0.4, 1.5], noise_range: [0.5, 15], poisson_scale_range: [0.05, 1.5], '
        'jpeg_range: [50, 95], resize_range2: [0.5, 1.2], noise_range2: [0.5, 12], poisson_scale_range2: [0.05, 1.2], '
        'jpeg_range2: [50, 95], blur_sigma: [0.2, 2], blur_sigma2: [0.2, 1]}')


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


def name_of(scale, real):
    """What follows DiffRWKVIR-tiny_ in the names of files."""
    return f'realsr_x{scale}' if real else f'x{scale}'


def datasets_of(root, real):
    """What --force_yml says of the demo's data sets."""
    # Degrading takes half as long as learning from it.
    force = ['datasets:train:num_worker_per_gpu=1'] if real else []
    for phase, folder, ending in (('train', root / 'train', '.lmdb'), ('val', root / 'test', '')):
        force.append(f'datasets:{phase}:dataroot_gt={folder}/GT{ending}')
        if real:
            force += [f'datasets:{phase}:{option}' for option in (
                'type=DegradationDataset', 'dataroot_lq=~', 'filename_tmpl=~', f'degradation={REAL}')]
        else:
            force.append(f'datasets:{phase}:dataroot_lq={folder}/LQ{ending}')
    return force


def train(root, args):
    """Both stages in the folder `root`; -> path of the second one's checkpoint."""
    scale, name = args.scale, 'train_DiffRWKVIR-tiny_{}_' + name_of(args.scale, args.real)
    checkpoint = str(root / 'experiments' / name / 'models' / 'net_g_latest.pth')
    for stage, count in zip(('S1', 'S2'), args.iterations):
        force = [f'name={name.format(stage)}', f'scale={scale}', f'network_g:scale={scale}',
                 f'train:total_iter={count}', f'train:scheduler:periods=[{count}]', 'train:ema_decay=0.999',
                 f'datasets:train:gt_size={scale * LQ_PATCH[scale]}', *datasets_of(root, args.real),
                 f'val:metrics:psnr:crop_border={scale}', f'val:metrics:ssim:crop_border={scale}',
                 f'val:val_freq={max(count // 10, 1)}', f'logger:save_checkpoint_freq={max(count // 4, 1)}']
        if stage == 'S2':
            force.append(f'path:pretrain_network_s1={checkpoint.format("S1")}')
        basicsr('train', f'train_DiffRWKVIR-tiny_{stage}_demo.yml', root, force, count,
                title=f'{name_of(scale, args.real)}, stage {stage[1]}: training')
    return checkpoint.format('S2')


def held_out_set(root, args):
    """The photographs that are held out, as `compare --sets` takes them."""
    if not args.real:
        return f'held_out={root}/test/GT:{root}/test/LQ'
    dataset = {'name': 'held_out', 'type': 'DegradationDataset', 'dataroot_gt': f'{root}/test/GT',
               'degradation': yaml.safe_load(REAL), 'seed': 0}
    file = root / 'held_out.yml'
    file.write_text(yaml.safe_dump({'scale': args.scale, 'datasets': {'test': dataset}}), encoding='utf-8')
    return str(file)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--scale', type=int, choices=sorted(LQ_PATCH), required=True)
    parser.add_argument('--real', action='store_true', help="train on Real-ESRGAN's degradations, milder, in place of "
                        'bicubic LRs')
    parser.add_argument('--iterations', type=int, nargs=2, default=(2500, 5000), metavar=('S1', 'S2'),
                        help='of the two stages (default: %(default)s)')
    parser.add_argument('--sets', nargs='*', default=[], metavar='NAME=GT:LQ',
                        help='test sets beside the held-out photographs')
    parser.add_argument('--out', type=Path, default=Path('results/shipped_weights'), help='default: %(default)s')
    args = parser.parse_args()
    name = name_of(args.scale, args.real)
    root, start = args.out.resolve() / name, time.time()
    write_pairs(training_images(), root / 'train', args.scale, crop=REAL_CROP if args.real else CROP)
    for kind in ('GT', 'LQ'):
        write_lmdb(root / 'train' / kind)
    write_pairs({held_out: photograph(held_out) for held_out in HELD_OUT}, root / 'test', args.scale)
    trained = read_checkpoint(train(root, args))
    target = SHIPPED_WEIGHTS / f'DiffRWKVIR-tiny_{name}.pth'
    write_whole({key: trained[key] for key in (ENTRY, 'params_ema')}, str(target))
    print(f'{target}: {(time.time() - start) / 60:.0f} min, {device_name(torch.device("cpu"))}, '
          f'torch {torch.__version__}')
    return basicsr_command(['compare', '--scale', str(args.scale), '--sets', held_out_set(root, args), *args.sets,
                            '--methods', 'bicubic', f'shipped={target}', '--metrics', 'psnr_y', 'ssim_y',
                            '-o', str(root / 'compare')])


if __name__ == '__main__':
    raise SystemExit(main())
