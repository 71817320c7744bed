"""One channel, `color: gray` or `y`: what datasets give, and what is refused."""
import cv2
import numpy as np
import pytest
import torch
from basicsr.data import build_dataset
from basicsr.utils import bgr2ycbcr
from degradation_cases import dataset_of
from drawing import draw

from diffrwkvir_arch.data.degradations import DEGRADATIONS
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.tools.pairs import write_lmdb

# Of every kind one that does something.
ALL = {
    'gaussian_noise': {'type': 'gaussian_noise', 'sigma': 25}, 'blur': {'type': 'blur', 'sigma': 2},
    'jpeg': {'type': 'jpeg', 'quality': 20}, 'bicubic': {'type': 'bicubic'}, 'real_esrgan': {'type': 'real_esrgan'},
}


@pytest.fixture
def grey_folders(tmp_path):
    """gt with a grey image of 16 bits, a grey one of 8 and one in colour, 40x48 each; lq with their halves."""
    pictures = [draw(40, 48, number) for number in range(3)]
    deep = pictures[0][..., 0].astype(np.uint16) * 257 + np.arange(48, dtype=np.uint16)
    images = {'deep': deep, 'grey': pictures[1][..., 0], 'rgb': pictures[2]}
    for side, step in (('gt', 1), ('lq', 2)):
        (tmp_path / side).mkdir()
        for name, image in images.items():
            assert cv2.imwrite(str(tmp_path / side / f'{name}.png'), image[::step, ::step])
    return tmp_path / 'gt', tmp_path / 'lq', images


def paired(gt, lq, **options):
    return build_dataset({'name': 'some', 'type': 'PairedImageDataset', 'phase': 'val', 'scale': 2,
                          'dataroot_gt': str(gt), 'dataroot_lq': str(lq), **options})


@pytest.mark.parametrize('phase', ['train', 'val'])
def test_gray_gives_the_values_of_grey_files_in_their_depth(grey_folders, phase):
    gt, lq, images = grey_folders
    write_lmdb(gt)
    write_lmdb(lq)
    for ending in ('', '.lmdb'):
        dataset = paired(f'{gt}{ending}', f'{lq}{ending}', color='gray', phase=phase)
        for number, (name, white) in enumerate({'deep': 65535, 'grey': 255}.items()):
            item = dataset[number]
            assert np.abs(item['gt'][0].numpy().astype(float) * white - images[name]).max() < 0.02
            assert torch.equal(item['lq'], item['gt'][:, ::2, ::2])


def test_of_a_colour_image_gray_is_opencvs_grey_and_y_the_luma_that_metrics_compare(grey_folders):
    gt, lq, images = grey_folders
    rgb = images['rgb'].astype(np.float32) / 255
    for color, expected in (('gray', cv2.cvtColor(rgb, cv2.COLOR_BGR2GRAY)), ('y', bgr2ycbcr(rgb, y_only=True))):
        item = paired(gt, lq, color=color)[2]
        assert item['gt'].shape == (1, 40, 48) and np.abs(item['gt'][0].numpy() - expected).max() < 1e-6


@pytest.mark.parametrize('color', ['gray', 'y'])
@pytest.mark.parametrize('phase', ['train', 'val'])
@pytest.mark.parametrize('name', DEGRADATIONS)
def test_every_degradation_takes_one_channel(grey_folders, name, phase, color):
    scale = 2 if DEGRADATIONS[name].shrinks else 1
    dataset = dataset_of(grey_folders[0], degradation=ALL[name], color=color, scale=scale, phase=phase, gt_size=24,
                         gt_usm=True, use_hflip=True, use_rot=True)
    for number in range(3):
        item = dataset[number]
        height, width = item['gt'].shape[1:]
        assert item['gt'].shape == ((1, 24, 24) if phase == 'train' else (1, 40, 48))
        assert item['lq'].shape == (1, height // scale, width // scale) and item['lq'].dtype == torch.float32
        # It is the image still, and not flipped, turned or empty.
        small = torch.nn.functional.avg_pool2d(item['gt'], scale)
        error, spread = (item['lq'] - small).square().mean(), small.var()
        assert 0 < error < (1.5 * spread + 0.02 if name == 'real_esrgan' else 0.5 * spread + 0.02)


def test_noise_and_jpeg_of_a_grey_image_are_those_of_its_one_channel(grey_folders):
    gt, _, images = grey_folders
    item = dataset_of(gt, degradation=ALL['jpeg'], color='gray')[1]
    encoded = cv2.imencode('.jpg', images['grey'], [cv2.IMWRITE_JPEG_QUALITY, 20])[1]
    assert np.array_equal(item['lq'][0] * 255, cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED))
    noise = (dataset_of(gt, degradation=ALL['gaussian_noise'], color='gray')[1])
    assert abs((noise['lq'] - noise['gt']).std() * 255 - 25) < 2


def test_gray_images_get_holes(grey_folders):
    dataset = build_dataset({'name': 'some', 'type': 'InpaintingDataset', 'phase': 'val', 'color': 'gray',
                             'dataroot_gt': str(grey_folders[0]), 'mask': {'preset': 'box'}})
    item = dataset[2]
    assert item['lq'].shape == item['gt'].shape == (1, 40, 48)
    assert torch.equal(item['lq'], torch.where(item['mask'] == 1, 0.5, item['gt']))


@pytest.mark.parametrize('options, message', [
    ({'color': 'grey'}, "'some'.color must be y, the luma of YCbCr, or gray, got 'grey'"),
    ({'color': 'gray', 'mean': [0.5] * 3}, r"'some'.mean must be a list of 1, one for each channel, got \[0.5, "),
    ({'std': [0.5]}, r"'some'.std must be a list of 3, one for each channel, got \[0.5\]")])
def test_what_cannot_be_given_is_refused(grey_folders, options, message):
    with pytest.raises(InputError, match=message):
        paired(*grey_folders[:2], **options)

