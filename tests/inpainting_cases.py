"""Small images, masks and option files for the tests of inpainting."""
import cv2
import numpy as np
import torch
from two_stage_cases import stage_options

BOX = {'preset': 'box', 'seed': 1}
NETWORK = dict(scale=1, in_channels=4, out_channels=3, dim=16, groups=1, blocks=1, head_dim=4, prior_dim=16,
               encoder_dim=8, upsampler='direct')
HOLE_METRICS = {name: {'type': f'calculate_{name}', 'crop_border': 0} for name in ('hole_psnr', 'hole_ssim', 'psnr')}


def write_images(folder, sizes=((32, 40), (36, 44), (33, 41))):
    """Noise as 8-bit PNGs; -> the folder's path."""
    folder.mkdir(parents=True)
    for number, size in enumerate(sizes):
        noise = np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)
        cv2.imwrite(str(folder / f'{number:02d}.png'), noise)
    return str(folder)


def write_mask(folder, name, mask):
    """A mask, (H, W) uint8, as folder/name."""
    folder.mkdir(exist_ok=True)
    cv2.imwrite(str(folder / name), mask)


def hole(height, width, inside=255, outside=0):
    """A mask with one box."""
    mask = np.full((height, width), outside, np.uint8)
    mask[8:20, 10:30] = inside
    return mask


def batch(n=2, height=10, width=9):
    """LQ, GT and a mask with known pixels and holes in every image."""
    torch.manual_seed(5)
    mask = (torch.rand(n, 1, height, width) < 0.4).float()
    return torch.rand(n, 3, height, width), torch.rand(n, 3, height, width), mask


def options(stage, root, name=None, **train):
    """A small option file of one stage as a dict, on root/gt."""
    gt = {'type': 'InpaintingDataset', 'dataroot_gt': str(root / 'gt')}
    data = {**gt, 'mask': {'preset': ['box', 'border']}, 'gt_size': 16, 'dataset_enlarge_ratio': 2}
    return stage_options(stage, NETWORK, data, {**gt, 'mask': BOX}, HOLE_METRICS, name, **{'ema_decay': 0.9, **train})
