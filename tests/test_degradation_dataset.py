"""DegradationDataset: what an item holds, what repeats, what is refused; both stages on it; its option files."""
import random
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr.data import build_dataloader
from degradation_cases import NETWORK, NOISE, apply, dataset_of, logged_psnr, options_of
from drawing import draw

from diffrwkvir_arch import cli
from diffrwkvir_arch.archs.diffrwkvir_s1_arch import DiffRWKVIRS1
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.tools.pairs import write_lmdb

SHIPPED = Path(__file__).parent.parent / 'options'


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """A folder, with a blank in its path, of three pictures, one of them grey."""
    folder = tmp_path_factory.mktemp('clean images') / 'gt'
    folder.mkdir()
    for number, size in enumerate([(64, 72), (60, 65), (61, 70)]):
        picture = draw(*size, number)
        cv2.imwrite(str(folder / f'{number:02d}.png'), picture if number < 2 else picture[..., 0])
    return folder


@pytest.fixture
def degraded(images):
    """Builds a DegradationDataset of `images`."""
    return lambda **options: dataset_of(images, **{'scale': 1, 'degradation': NOISE, **options})


def noise_of(item):
    return item['lq'] - item['gt']


# What is added


def test_an_item_is_the_file_and_its_noisy_copy(degraded, images):
    item = degraded()[0]
    gt = cv2.imread(str(images / '00.png'))[..., ::-1].astype(np.float32) / 255
    assert np.array_equal(item['gt'].permute(1, 2, 0), gt)
    assert item['lq'].shape == item['gt'].shape and item['lq'].dtype == torch.float32
    assert item['lq_path'] == item['gt_path'] == str(images / '00.png')


@pytest.mark.parametrize('quality', [1, 10, 40, 95])
def test_jpeg_is_what_opencv_makes_of_the_file(degraded, images, quality):
    dataset = degraded(degradation={'type': 'jpeg', 'quality': quality})
    for number in range(3):
        # The third is grey: its colours stay alike.
        image = cv2.imread(str(images / f'{number:02d}.png'), cv2.IMREAD_UNCHANGED)
        encoded = cv2.imdecode(cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
        assert np.array_equal((dataset[number]['lq'] * 255).round().permute(1, 2, 0), encoded[..., ::-1])


def test_blocks_of_jpeg_lie_anywhere_in_training_patches(degraded):
    def rows_with_block_edges(lq):
        return int(lq.diff(dim=1).abs().mean((0, 2)).reshape(-1).argmax()) % 8

    dataset = degraded(phase='train', gt_size=48, degradation={'type': 'jpeg', 'quality': 1})
    assert len({rows_with_block_edges(dataset[0]['lq']) for _ in range(30)}) > 3


def test_several_degradations_follow_each_other(degraded):
    def is_8_bit(*sections):
        values = degraded(degradation=list(sections))[0]['lq'] * 255
        return 0 <= values.min() and values.max() <= 255 and torch.allclose(values, values.round(), atol=1e-3)

    blur, jpeg = {'type': 'blur', 'sigma': 3}, {'type': 'jpeg', 'quality': 50}
    assert is_8_bit(jpeg) and is_8_bit(blur, NOISE, jpeg)
    assert not is_8_bit(jpeg, NOISE) and not is_8_bit(NOISE, jpeg, blur)


@pytest.mark.parametrize('size', [24, 56])
def test_blurred_patches_are_those_of_the_blurred_image(degraded, images, size):
    blur = {'type': 'blur', 'sigma': 2, 'kernel': 'iso', 'kernel_size': 9}
    gt = cv2.imread(str(images / '00.png'))[..., ::-1].astype(np.float32) / 255
    blurred = apply(gt, blur)
    for _ in range(10):
        item = degraded(phase='train', gt_size=size, degradation=blur)[0]
        patch = item['gt'].permute(1, 2, 0).numpy()
        places = np.lib.stride_tricks.sliding_window_view(gt, patch.shape)[..., 0, :, :, :]
        (top, left), = np.argwhere((places == patch).all((-3, -2, -1)))
        same = np.abs(blurred[top:top + size, left:left + size] - item['lq'].permute(1, 2, 0).numpy()) < 1e-6
        # An image that is hardly larger than a patch leaves too little around it.
        assert same.all() if size == 24 else same[4:-4, 4:-4].all()


# What repeats


def test_validation_gets_the_same_lq_again_and_each_file_its_own_noise(degraded):
    drawn = {'degradation': [{'type': 'jpeg', 'quality': [10, 90]}, NOISE]}

    def read(order, seed=0):
        random.seed(order[0])
        np.random.seed(order[0])
        dataset = degraded(**drawn, seed=seed)
        return {index: dataset[index]['lq'] for index in order}

    first, again, other = read((0, 1, 2)), read((2, 0, 1)), read((0, ), seed=1)
    assert all(torch.equal(first[index], again[index]) for index in range(3))
    assert not torch.equal(first[0], other[0])
    noises = [noise_of(degraded()[i]).permute(1, 2, 0).flatten()[:999] for i in range(3)]
    assert all(not torch.allclose(noises[i], noises[j], atol=1e-3) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_validation_leaves_the_random_numbers_of_training_alone(degraded):
    dataset = degraded(degradation=[{'type': 'blur', 'sigma': [1, 2], 'kernel': {'iso': 1, 'aniso': 1}}, NOISE])

    def draws(validate):
        random.seed(3)
        np.random.seed(3)
        if validate:
            dataset[0]
        return random.random(), np.random.rand()

    assert draws(True) == draws(False)


def test_training_draws_anew_and_patches_stay_pairs(degraded):
    dataset = degraded(phase='train', gt_size=48, use_hflip=True, use_rot=True, degradation={**NOISE, 'sigma': 1})
    items = [dataset[1] for _ in range(8)]
    assert all(item['lq'].shape == item['gt'].shape == (3, 48, 48) for item in items)
    assert len({noise_of(item).numpy().tobytes() for item in items}) == 8
    assert len({item['gt'].numpy().tobytes() for item in items}) > 1
    assert all(noise_of(item).std() * 255 == pytest.approx(1, rel=0.1) for item in items)


def test_workers_repeat_a_run_and_differ_between_epochs(degraded):
    options = {'phase': 'train', 'gt_size': 24, 'num_worker_per_gpu': 2, 'batch_size_per_gpu': 1}

    def drawn(seed):
        loader = build_dataloader(degraded(**options), options, num_gpu=0, dist=False, sampler=None, seed=seed)
        torch.manual_seed(0)
        return [noise_of(batch) for _ in range(2) for batch in loader]

    first, second, other = drawn(3), drawn(3), drawn(4)
    assert all(torch.equal(one, again) for one, again in zip(first, second))
    assert len({noise.numpy().tobytes() for noise in first + other}) == 12


# What is read, what is refused


def test_lmdb_gives_what_the_folder_gives(degraded, images):
    if not Path(f'{images}.lmdb').exists():
        write_lmdb(images)
    plain, lmdb = degraded(), degraded(dataroot_gt=f'{images}.lmdb')
    assert all(torch.equal(plain[i][key], lmdb[i][key]) for i in range(3) for key in ('lq', 'gt'))


def test_a_list_chooses_images(degraded, tmp_path):
    (tmp_path / 'list.txt').write_text('01.png (60,65,3)\n')
    dataset = degraded(meta_info_file=str(tmp_path / 'list.txt'))
    assert len(dataset) == 1 and torch.equal(dataset[0]['lq'], degraded()[1]['lq'])


def test_an_image_of_one_pixel_is_degraded(degraded, tmp_path):
    cv2.imwrite(str(tmp_path / 'dot.png'), np.full((1, 1, 3), 100, np.uint8))
    item = degraded(dataroot_gt=str(tmp_path), degradation=[{'type': 'blur', 'sigma': 3},
                                                            {'type': 'jpeg', 'quality': 10}])[0]
    assert item['lq'].shape == (3, 1, 1) and torch.allclose(item['lq'], item['gt'], atol=0.1)


def test_a_patch_may_be_as_large_as_the_image_and_no_larger(degraded):
    assert degraded(phase='train', gt_size=60)[1]['lq'].shape == (3, 60, 60)
    with pytest.raises(InputError, match=r'clean images.*/01\.png: 65x60 is smaller than a patch of gt_size 64'):
        degraded(phase='train', gt_size=64)[1]


@pytest.mark.parametrize('options, message', [
    ({'degradation': None}, 'DegradationDataset needs degradation, such as'),
    ({'degradation': []}, 'degradation is empty'),
    ({'degradation': 25}, r'degradation must be a section such as .* got 25'),
    ({'degradation': {'type': 'gausian_noise'}}, "unknown degradation 'gausian_noise'.*did you mean 'gaussian_noise'"),
    ({'degradation': {'type': 'gaussian_noise'}}, 'missing option: .*degradation.sigma'),
    ({'degradation': {**NOISE, 'sigmas': 3}}, "unknown option .*degradation.sigmas'.*did you mean 'sigma'"),
    ({'degradation': {**NOISE, 'sigma': -1}}, 'degradation.sigma must be a number of 0 to 255.* got -1'),
    ({'degradation': {**NOISE, 'sigma': [50, 0]}}, r'degradation.sigma must be .* got \[50, 0\]'),
    ({'degradation': {**NOISE, 'sigma': [15, 25, 50]}}, r'degradation.sigma must be .* a pair'),
    ({'degradation': {**NOISE, 'sigma': float('nan')}}, 'degradation.sigma must be .* got nan'),
    ({'degradation': [NOISE, {'type': 'jpeg', 'quality': 0}]}, r'degradation\[1\].quality must be a whole number of 1 '
     'to 100.* got 0'),
    ({'degradation': {'type': 'jpeg', 'quality': 10.5}}, 'degradation.quality must be a whole number'),
    ({'degradation': {'type': 'blur', 'sigma': 2, 'kernel_size': 20}}, 'kernel_size must be an odd number .* got 20'),
    ({'degradation': {'type': 'blur', 'sigma': 0}}, 'degradation.sigma must be a number of 0.1 to 21, .* got 0'),
    ({'degradation': {'type': 'blur', 'sigma': 2, 'kernel': 'motion'}}, "unknown kernel 'motion'.*choose from iso"),
    ({'degradation': {'type': 'blur', 'sigma': 2, 'kernel': {'iso': 0}}}, 'kernel.iso must be a weight above 0, got 0'),
    ({'degradation': {'type': 'blur', 'sigma': 2, 'kernel': ['iso']}}, r"kernel must be a name .* got \['iso'\]"),
    ({'seed': 'x'}, "seed must be a whole number of at least 0, got 'x'"),
    ({'scale': 4}, 'degradation: nothing in it makes images 4 times smaller.*put {type: bicubic}'),
    ({'mean': [0.5] * 3}, 'DegradationDataset has no option mean: its images are in'),
    ({'dataroot_lq': 'lq'}, 'DegradationDataset has no option dataroot_lq.*use type PairedImageDataset')])
def test_options_that_cannot_work_are_refused(degraded, options, message):
    with pytest.raises(InputError, match=message):
        degraded(**options)


# Training


def test_both_stages_train_and_a_saved_network_is_tested_on_the_same_noise(images, workdir, write_options):
    for stage in (1, 2):
        assert not cli.main(['train', '-opt', write_options(options_of(stage, images))])
    opt = options_of(2, images, 'again')
    opt['datasets'] = {'test': opt['datasets']['val']}
    opt['path'] = {'pretrain_network_g': 'experiments/stage2/models/net_g_2.pth'}
    del opt['train'], opt['logger'], opt['val']['val_freq']
    assert not cli.main(['test', '-opt', write_options(opt)])
    validated = logged_psnr(workdir / 'experiments/stage2')
    assert logged_psnr(workdir / 'results/again') == pytest.approx(validated, abs=1e-3)


def test_pairs_of_photographs_train_at_scale_one(images, workdir, write_options):
    pairs = {'type': 'PairedImageDataset', 'dataroot_lq': str(images), 'degradation': None}
    opt = options_of(1, images, 'pairs', **pairs)
    for dataset in opt['datasets'].values():
        del dataset['degradation']
    assert not cli.main(['train', '-opt', write_options(opt)])
    assert np.isfinite(logged_psnr(workdir / 'experiments/pairs'))


def test_a_wrong_degradation_is_told_before_anything_is_written(images, workdir, write_options, capsys):
    opt = options_of(1, images, degradation={**NOISE, 'sigma': 300})
    assert cli.main(['train', '-opt', write_options(opt)]) == 2
    message = capsys.readouterr().err
    assert 'datasets.train.degradation.sigma must be a number of 0 to 255' in message
    assert not (workdir / 'experiments').exists()


def test_a_network_learns_to_remove_noise(degraded):
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    dataset = degraded(phase='train', gt_size=32, degradation={**NOISE, 'sigma': 50})
    net = DiffRWKVIRS1(**{**NETWORK, 'dim': 32})
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for step in range(100):
        items = [dataset[(step + number) % 3] for number in range(4)]
        lq, gt = (torch.stack([item[key] for item in items]) for key in ('lq', 'gt'))
        optimizer.zero_grad()
        (net(lq, gt) - gt).abs().mean().backward()
        optimizer.step()
    item = degraded(degradation={**NOISE, 'sigma': 50})[0]
    lq, gt = item['lq'][None], item['gt'][None]
    with torch.no_grad():
        restored = net(lq, gt)
    # 1 dB less.
    assert (restored - gt).square().mean() < 10**-0.1 * (lq - gt).square().mean()


# Option files

FILES = sorted(path for task in ('denoise', 'deblur', 'jpeg') for path in SHIPPED.glob(f'*_{task}.yml'))


def load(path):
    return yaml.safe_load(path.read_text(encoding='utf-8'))


def test_every_task_has_files_for_both_stages_and_for_testing():
    assert {path.stem for path in FILES} == {f'{kind}_{task}' for task in ('denoise', 'deblur', 'jpeg') for kind in (
        'train_DiffRWKVIR_S1', 'train_DiffRWKVIR_S2', 'test_DiffRWKVIR_S2')}


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_option_files_train_the_network_of_x4_at_scale_one_and_measure_whole_images(path):
    opt, x4 = load(path), load(SHIPPED / f'{path.stem.rpartition("_")[0]}_x4.yml')
    assert opt['scale'] == 1 and opt['network_g'] == {**x4['network_g'], 'scale': 1}
    assert opt.get('train') == x4.get('train')
    assert all(dataset['type'] == 'DegradationDataset' for dataset in opt['datasets'].values())
    assert all(metric['crop_border'] == 0 for metric in opt['val']['metrics'].values())
    assert not opt['val']['metrics']['psnr'].get('test_y_channel')


def test_the_levels_that_the_field_reports_are_tested():
    noise, jpeg = ([dataset['degradation'] for dataset in load(SHIPPED / f'test_DiffRWKVIR_S2_{task}.yml')['datasets']
                    .values()] for task in ('denoise', 'jpeg'))
    assert [section['sigma'] for section in noise] == [15, 25, 50]
    assert [section['quality'] for section in jpeg] == [10, 20, 30, 40]
