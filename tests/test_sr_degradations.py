"""Super-resolution from GT alone: DegradationDataset at scales beyond 1, the models on it, its option files."""
import random
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr.utils.img_process_util import usm_sharp
from degradation_cases import dataset_of, logged_psnr, options_of
from drawing import draw

from diffrwkvir_arch import cli
from diffrwkvir_arch.bicubic import imresize
from diffrwkvir_arch.data.degradations import build_degradations
from diffrwkvir_arch.errors import InputError

SHIPPED = Path(__file__).parent.parent / 'options'
BICUBIC, REAL = {'type': 'bicubic'}, {'type': 'real_esrgan'}
NOISE, JPEG = {'type': 'gaussian_noise', 'sigma': 10}, {'type': 'jpeg', 'quality': 1}


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """A folder of three pictures, coarse enough for a quarter of their sides, which are no multiples of the scales."""
    folder = tmp_path_factory.mktemp('photographs')
    for number, size in enumerate([(131, 142), (150, 129), (133, 135)]):
        picture = cv2.resize(draw(22, 24, number), size, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f'{number:02d}.png'), picture)
    return folder


@pytest.fixture(autouse=True)
def seed():
    random.seed(0)
    np.random.seed(0)


@pytest.fixture
def degraded(images):
    """Builds a DegradationDataset of `images`."""
    return lambda **options: dataset_of(images, **{'scale': 4, 'degradation': BICUBIC, **options})


def file_of(images, number):
    return np.ascontiguousarray(cv2.imread(str(images / f'{number:02d}.png'))[..., ::-1])


def as_array(tensor):
    return tensor.permute(1, 2, 0).numpy()


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_bicubic_makes_the_lr_that_prepare_writes(degraded, images, scale):
    for number in range(3):
        item, gt = degraded(scale=scale)[number], file_of(images, number)
        gt = gt[:gt.shape[0] // scale * scale, :gt.shape[1] // scale * scale]
        assert np.array_equal((as_array(item['gt']) * 255).round(), gt)
        assert np.array_equal((as_array(item['lq']) * 255).round(), imresize(gt, 1 / scale))


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_patches_are_those_of_the_whole_image_made_smaller(degraded, images, scale):
    dataset, gt = degraded(phase='train', gt_size=12 * scale, scale=scale), file_of(images, 0)
    tops = set()
    for _ in range(12):
        item = dataset[0]
        patch, lq = (as_array(item[key]) * 255 for key in ('gt', 'lq'))
        assert lq.shape == (12, 12, 3) and patch.shape == (12 * scale, 12 * scale, 3)
        places = np.lib.stride_tricks.sliding_window_view(gt, patch.shape)[:, :, 0]
        (top, left), = np.argwhere((places == patch.round()).all((-3, -2, -1)))
        small = imresize(np.ascontiguousarray(gt[top % scale:, left % scale:]), 1 / scale)
        expected = small[top // scale:, left // scale:][:12, :12]
        assert np.array_equal(lq.round(), expected)
        tops.add(top % scale)
    assert len(tops) > 1


@pytest.mark.parametrize('scale, order', [(4, (0, 1)), (2, (1, 0))])
def test_patches_are_degraded_with_all_that_reaches_them(degraded, images, scale, order):
    steps = [{'type': 'blur', 'sigma': 12, 'kernel_size': 21}, BICUBIC]
    degradation = [steps[number] for number in order]
    dataset = degraded(phase='train', gt_size=8 * scale, scale=scale, degradation=degradation)
    whole = build_degradations('degradation', degradation, scale)
    gt = file_of(images, 0)
    for _ in range(8):
        item = dataset[0]
        patch, lq = (as_array(item[key]) * 255 for key in ('gt', 'lq'))
        places = np.lib.stride_tricks.sliding_window_view(gt, patch.shape)[:, :, 0]
        (top, left), = np.argwhere((places == patch.round()).all((-3, -2, -1)))
        small = gt[top % scale:, left % scale:].astype(np.float32) / 255
        small = small[:len(small) // scale * scale, :small.shape[1] // scale * scale]
        for step in whole:
            small = step(small)
        expected = small[top // scale:, left // scale:][:8, :8] * 255
        assert np.abs(lq - expected).max() < (1.01 if order == (0, 1) else 0.01)


def test_blocks_of_jpeg_lie_anywhere_in_the_lq(degraded):
    def rows_with_block_edges(lq):
        return int(lq.diff(dim=1).abs().mean((0, 2)).reshape(-1).argmax()) % 8

    dataset = degraded(phase='train', gt_size=48, scale=2, degradation=[BICUBIC, JPEG])
    assert len({rows_with_block_edges(dataset[0]['lq']) for _ in range(30)}) > 3


@pytest.mark.parametrize('degradation', [REAL, [{'type': 'blur', 'sigma': [0.2, 3]}, BICUBIC, NOISE, JPEG]])
@pytest.mark.parametrize('size', [16, 128])
def test_pairs_fit_each_other_whatever_is_done_to_them(degraded, degradation, size):
    dataset = degraded(phase='train', gt_size=size, use_hflip=True, use_rot=True, degradation=degradation)
    for number in range(3):
        item = dataset[number]
        assert item['gt'].shape == (3, size, size) and item['lq'].shape == (3, size // 4, size // 4)
        small = torch.nn.functional.avg_pool2d(item['gt'], 4)
        # A shift or turn of it would not resemble its mean colours.
        assert size == 16 or torch.corrcoef(torch.stack([small.flatten(), item['lq'].flatten()]))[0, 1] > 0.8


def test_validation_gets_the_same_lq_again_and_leaves_training_alone(degraded):
    def draws(validate):
        random.seed(3)
        np.random.seed(3)
        lq = degraded(degradation=REAL, seed=5)[1]['lq'] if validate else None
        return lq, (random.random(), np.random.rand())

    (first, after), (_, without) = draws(True), draws(False)
    assert after == without and torch.equal(first, degraded(degradation=REAL, seed=5)[1]['lq'])
    assert not torch.equal(first, degraded(degradation=REAL, seed=6)[1]['lq'])


def test_gt_usm_sharpens_the_gt_of_which_the_lq_is_made(degraded, images):
    gt = file_of(images, 0)[:140, :128].astype(np.float32) / 255
    sharp, plain = degraded(gt_usm=True)[0], degraded(gt_usm=False)[0]
    assert np.array_equal(as_array(sharp['gt']), usm_sharp(gt).astype(np.float32))
    assert np.array_equal(as_array(plain['gt']), gt)
    assert sharp['lq'].std() > plain['lq'].std()


@pytest.mark.parametrize('options, message', [
    ({'degradation': NOISE}, 'degradation: nothing in it makes images 4 times smaller, as scale: 4 wants; put {type: '
     'bicubic} where that is to happen, or use {type: real_esrgan}'),
    ({'degradation': [REAL, BICUBIC]}, 'degradation: bicubic and real_esrgan each divide sides by the scale'),
    ({'degradation': [BICUBIC, BICUBIC]}, 'degradation: bicubic and bicubic each divide'),
    ({'degradation': {**BICUBIC, 'scale': 2}}, 'degradation.scale: leave it out, it is that of the option file, 4'),
    ({'scale': 1}, 'degradation.type: bicubic makes images smaller, and scale is 1'),
    ({'gt_usm': 'yes'}, "gt_usm must be true or false, got 'yes'")])
def test_options_that_cannot_work_are_refused(degraded, options, message):
    with pytest.raises(InputError, match=message):
        degraded(**options)


def test_an_image_smaller_than_the_scale_is_named(degraded, tmp_path):
    cv2.imwrite(str(tmp_path / 'dot.png'), np.zeros((3, 9, 3), np.uint8))
    with pytest.raises(InputError, match=r'dot\.png: 9x3 is too small for scale 4'):
        degraded(dataroot_gt=str(tmp_path))[0]


# Training


def test_both_stages_and_a_peer_train_on_gt_alone(images, workdir, write_options):
    given = {'degradation': REAL}
    for stage in (1, 2):
        opt = options_of(stage, images, **given)
        opt['scale'] = opt['network_g']['scale'] = 4
        opt['datasets']['train']['gt_usm'] = True
        assert not cli.main(['train', '-opt', write_options(opt)])
        assert np.isfinite(logged_psnr(workdir / f'experiments/stage{stage}'))
    opt = options_of(1, images, 'peer', degradation=[BICUBIC, NOISE])
    opt |= {'scale': 2, 'model_type': 'RestorationModel',
            'network_g': {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 2}}
    assert not cli.main(['train', '-opt', write_options(opt)])
    assert np.isfinite(logged_psnr(workdir / 'experiments/peer'))


def test_methods_are_compared_on_the_lq_of_an_option_file(images, workdir, degraded):
    dataset = {'name': 'real', 'type': 'DegradationDataset', 'dataroot_gt': str(images), 'degradation': REAL, 'seed': 2}
    (workdir / 'real.yml').write_text(yaml.safe_dump({'name': 'real', 'scale': 4, 'datasets': {'test': dataset}}))
    assert not cli.main(['compare', '--methods', 'bicubic', '--sets', 'real.yml', '--scale', '4', '-o', 'out',
                         '--save-images'])
    item = degraded(degradation=REAL, seed=2)[1]
    enlarged = imresize((as_array(item['lq']) * 255).round().astype(np.uint8), 4)
    saved, = (workdir / 'out').rglob('*01*.png')
    # One rounds once, the other twice.
    assert np.abs(cv2.imread(str(saved))[..., ::-1].astype(int) - enlarged).max() <= 1


# Option files


def load(name):
    return yaml.safe_load((SHIPPED / f'{name}.yml').read_text(encoding='utf-8'))


@pytest.mark.parametrize('kind', ['train_DiffRWKVIR_S1', 'train_DiffRWKVIR_S2', 'train_DiffRWKVIR_GAN',
                                  'test_DiffRWKVIR_S2'])
def test_real_photographs_need_another_dataset_and_nothing_else(kind):
    real, x4 = load(f'{kind}_realsr_x4'), load(f'{kind}_x4')
    # Photographs without a GT are measured by NIQE.
    assert ('niqe' in real['val']['metrics']) == kind.startswith('test')
    real['val']['metrics'].pop('niqe', None)
    for opt in (real, x4):
        for key in ('name', 'datasets'):
            del opt[key]
        opt['path'] = {key: str(value).replace('_realsr', '') for key, value in opt['path'].items()}
    assert real == x4
