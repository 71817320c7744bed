"""Trains a small inpainting DiffRWKVIR, both stages, on a folder of photographs, and compares it with OpenCV's methods.

    python benchmarks/small_inpainting.py --data DIR

DIR/train/ holds photographs to train on, DIR/inpainting/images/ those to test on, both searched with their subfolders.
The latter become 256x256 (the shorter side scaled, the middle taken), with frozen masks of LaMa's thin, medium and
thick presets. Everything runs through `basicsr masks`, `basicsr train` and `basicsr compare`.
"""
import argparse
import shutil
import time
from pathlib import Path

import cv2
import torch
import yaml
from small_sr import photographs

from diffrwkvir_arch.cli import main as basicsr_command
from diffrwkvir_arch.tools.call_cost import device_name
from diffrwkvir_arch.tools.pairs import write_lmdb
from diffrwkvir_arch.tools.stages import basicsr
from diffrwkvir_arch.toolbox.options import load_option_file

OPTIONS = Path(__file__).parent.parent / 'options'
SIDE = 256
PRESETS = ('thin', 'medium', 'thick')
NETWORK = dict(dim=48, groups=2, blocks=3, prior_dim=64, encoder_dim=16, upsampler='direct')
PATCH, BATCH, LEARNING_RATE = 128, 8, 2e-3
METHODS = ('DiffRWKVIR', 'telea', 'navier-stokes')


def squares(images, side):
    """The same images, their shorter side scaled to `side` and their middle cut out."""
    for name, image in images.items():
        factor = side / min(image.shape[:2])
        size = [max(round(length * factor), side) for length in image.shape[1::-1]]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
        top, left = ((length - side) // 2 for length in image.shape[:2])
        yield name, image[top:top + side, left:left + side]


def write_images(images, folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, image in images:
        cv2.imwrite(str(folder / f'{name}.png'), image)


def write_options(root, stage, iterations):
    """options/train_DiffRWKVIR_STAGE_inpaint_places256.yml with a small network, its data and its schedule -> path."""
    opt = load_option_file(OPTIONS / f'train_DiffRWKVIR_{stage}_inpaint_places256.yml')
    opt['name'] = f'small_inpainting_{stage}'
    opt['network_g'].update(NETWORK)
    opt['datasets'] = {'train': opt['datasets']['train']}
    presets = [f'lama_{preset}_256' for preset in ('train', *PRESETS)]
    opt['datasets']['train']['mask'] = {'preset': presets, 'max_area': 1.0}
    opt['datasets']['train'].update(
        dataroot_gt=str(root / 'train.lmdb'), io_backend={'type': 'lmdb'}, gt_size=PATCH, batch_size_per_gpu=BATCH,
        num_worker_per_gpu=1)
    del opt['datasets']['train']['meta_info_file'], opt['val']
    schedule = {'type': 'CosineAnnealingRestartLR', 'periods': [iterations], 'restart_weights': [1], 'eta_min': 1e-5}
    opt['train'].update(total_iter=iterations, ema_decay=0.99, clip_grad_norm=1.0, scheduler=schedule)
    opt['train']['optim_g']['lr'] = LEARNING_RATE
    opt['logger'].update(print_freq=20, save_checkpoint_freq=max(iterations // 4, 1), use_tb_logger=False)
    if stage == 'S2':
        opt['path']['pretrain_network_s1'] = str(checkpoint(root, 'S1'))
        opt['train']['kd_opt']['loss_weight'] = 0.1
    return save_options(opt, root / f'{opt["name"]}.yml')


def write_test_options(root):
    """An option file of the trained network and the test images under every preset's masks -> path."""
    opt = load_option_file(OPTIONS / 'test_DiffRWKVIR_S2_inpaint_places256.yml')
    opt['name'] = 'small_inpainting'
    opt['network_g'].update(NETWORK)
    opt['datasets'] = {f'test_{number}': {
        'name': preset, 'type': 'InpaintingDataset', 'dataroot_gt': str(root / 'test'),
        'dataroot_mask': str(root / f'masks_{preset}' / 'masks'), 'io_backend': {'type': 'disk'}}
        for number, preset in enumerate(PRESETS, start=1)}
    opt['path'].update(pretrain_network_g=str(checkpoint(root, 'S2')), param_key_g='params_ema')
    return save_options(opt, root / 'small_inpainting.yml')


def checkpoint(root, stage):
    return root / 'experiments' / f'small_inpainting_{stage}' / 'models' / 'net_g_latest.pth'


def save_options(opt, path):
    path.write_text(yaml.safe_dump(opt, sort_keys=False), encoding='utf-8')
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, required=True, help='folder of train/ and inpainting/images/')
    parser.add_argument('--out', type=Path, default=Path('results/small_inpainting'), help='default: %(default)s')
    parser.add_argument('--iterations', type=int, nargs=2, default=(700, 2200), metavar=('S1', 'S2'),
                        help='of the two stages (default: %(default)s)')
    parser.add_argument('--report', type=Path, help='folder for the table and the contact sheets')
    args = parser.parse_args()
    data, root, start = args.data.resolve(), args.out.resolve(), time.time()
    train, test = (photographs(data / part) for part in ('train', 'inpainting/images'))
    if not train or not test:
        parser.error(f'--data: {data} needs photographs in train/ and inpainting/images/')
    train = {name: image for name, image in train.items() if min(image.shape[:2]) >= PATCH}
    write_images(train.items(), root / 'train')
    write_lmdb(root / 'train')
    write_images(squares(test, SIDE), root / 'test')
    for preset in PRESETS:
        shutil.rmtree(root / f'masks_{preset}', ignore_errors=True)
        basicsr_command(['masks', str(root / 'test'), '--preset', f'lama_{preset}_256',
                         '-o', str(root / f'masks_{preset}')])
    trained = time.time()
    for stage, iterations in zip(('S1', 'S2'), args.iterations):
        basicsr('train', write_options(root, stage, iterations), root, iterations=iterations, title=f'stage {stage[1]}')
    minutes = (time.time() - trained) / 60
    options = write_test_options(root)
    basicsr_command(['compare', '--methods', f'{METHODS[0]}={options}', *METHODS[1:], '--sets', str(options),
                     '-o', str(root / 'compare')])
    sizes = ', '.join(f'{key} {value}' for key, value in NETWORK.items())
    note = (f'DiffRWKVIR at scale 1 ({sizes}), {len(train)} photographs, {args.iterations[0]} + {args.iterations[1]} '
            f'iterations of {BATCH} patches of {PATCH}x{PATCH} pixels with masks of all presets; {len(test)} test '
            f'images of {SIDE}x{SIDE} pixels. {minutes:.1f} min of training, {(time.time() - start) / 60:.1f} '
            f'min in all; {device_name(torch.device("cpu"))}, torch {torch.__version__}.\n\n')
    report = note + (root / 'compare' / 'results.md').read_text(encoding='utf-8').replace(str(root), str(args.out))
    print('\n' + note)
    if args.report:
        args.report.mkdir(parents=True, exist_ok=True)
        (args.report / 'small_inpainting.md').write_text(report, encoding='utf-8')
        for preset in PRESETS:
            sheet = cv2.imread(str(root / 'compare' / f'{preset}.png'))
            cv2.imwrite(str(args.report / f'small_inpainting_{preset}.jpg'), sheet)


if __name__ == '__main__':
    main()
