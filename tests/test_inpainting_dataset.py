"""InpaintingDataset: what an item holds, which mask belongs to which image, what repeats, what is refused."""
import random
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from basicsr.data import build_dataloader, build_dataset
from inpainting_cases import BOX, hole, write_images, write_mask

from diffrwkvir_arch.data import mask_folder
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.tools.pairs import write_lmdb


def to_lmdb(folder):
    write_lmdb(Path(folder))
    return f'{folder}.lmdb'


@pytest.fixture
def images(tmp_path):
    return write_images(tmp_path / 'gt')


@pytest.fixture
def masks(tmp_path, images):
    """A folder with the mask of each image."""
    for path in Path(images).iterdir():
        write_mask(tmp_path / 'masks', path.name, hole(*cv2.imread(str(path)).shape[:2]))
    return tmp_path / 'masks'


@pytest.fixture
def inpainting(images):
    """Builds an InpaintingDataset of `images`; a value None takes an option out."""

    def build(**options):
        given = {'name': 'some', 'type': 'InpaintingDataset', 'phase': 'val', 'scale': 1, 'dataroot_gt': images,
                 **options}
        return build_dataset({key: value for key, value in given.items() if value is not None})

    return build


def test_an_item_is_gt_mask_and_the_gt_with_middle_grey_in_its_hole(inpainting, images):
    item = inpainting(mask=BOX)[0]
    gt = cv2.imread(f'{images}/00.png')[..., ::-1].astype(np.float32) / 255
    assert np.array_equal(item['gt'].permute(1, 2, 0), gt)
    assert item['mask'].shape == (1, 32, 40) and item['mask'].dtype == torch.float32
    assert torch.equal(item['lq'], torch.where(item['mask'] == 1, torch.tensor(0.5), item['gt']))
    assert item['lq_path'] == item['gt_path'] == f'{images}/00.png'


def test_validation_masks_come_again_and_differ_between_images(inpainting):
    first, again, other = inpainting(mask=BOX), inpainting(mask=BOX), inpainting(mask={**BOX, 'seed': 2})
    assert all(torch.equal(first[i]['mask'], again[i]['mask']) for i in range(3))
    assert any(not torch.equal(first[i]['mask'], other[i]['mask']) for i in range(3))


def test_a_training_patch_gets_a_new_mask_each_time(inpainting):
    dataset = inpainting(phase='train', gt_size=24, mask={'preset': 'box'}, use_hflip=True, use_rot=True)
    items = [dataset[0] for _ in range(4)]
    assert all(item['gt'].shape == (3, 24, 24) and item['mask'].shape == (1, 24, 24) for item in items)
    assert len({item['mask'].numpy().tobytes() for item in items}) > 1
    assert len({item['gt'].numpy().tobytes() for item in items}) > 1


def test_several_workers_repeat_a_run_and_do_not_repeat_each_other(inpainting):
    options = {'phase': 'train', 'gt_size': 24, 'mask': {'preset': 'box'}, 'num_worker_per_gpu': 2,
               'batch_size_per_gpu': 1, 'use_hflip': True, 'use_rot': True}

    def drawn():
        loader = build_dataloader(inpainting(**options), options, num_gpu=0, dist=False, sampler=None, seed=3)
        torch.manual_seed(0)
        return [batch['mask'] for _ in range(2) for batch in loader]

    first, second = drawn(), drawn()
    assert all(torch.equal(one, other) for one, other in zip(first, second))
    assert len({mask.numpy().tobytes() for mask in first}) == len(first) == 6


def test_images_and_masks_in_lmdb_give_what_folders_give(inpainting, images, masks):
    plain = inpainting(dataroot_mask=str(masks))
    lmdb = inpainting(dataroot_gt=to_lmdb(images), dataroot_mask=to_lmdb(masks), io_backend={'type': 'lmdb'})
    mixed = inpainting(dataroot_gt=f'{images}.lmdb', dataroot_mask=str(masks))
    for dataset in (lmdb, mixed):
        assert all(torch.equal(dataset[i][key], plain[i][key]) for i in range(3) for key in ('lq', 'mask', 'gt'))
    drawn = inpainting(dataroot_gt=f'{images}.lmdb', mask=BOX)
    assert torch.equal(drawn[1]['mask'], inpainting(mask=BOX)[1]['mask'])


def test_a_list_chooses_images_in_folders_of_their_classes(inpainting, images, tmp_path):
    (Path(images) / 'a').mkdir()
    shutil.move(f'{images}/01.png', f'{images}/a/01.png')
    (tmp_path / 'list.txt').write_text('/a/01.png 0\n')
    dataset = inpainting(mask=BOX, meta_info_file=str(tmp_path / 'list.txt'))
    assert len(dataset) == 1 and dataset[0]['gt'].shape == (3, 36, 44)


def test_masks_belong_to_images_by_name_up_to_the_template(inpainting, masks):
    for path in list(masks.iterdir()):
        path.rename(masks / f'{path.stem}_mask000.png')
    item = inpainting(dataroot_mask=str(masks), filename_tmpl='{}_mask000')[0]
    assert np.array_equal(item['mask'][0], hole(32, 40) == 255)
    with pytest.raises(InputError, match=r"image without mask: 00\.png, 01\.png, 02\.png; mask without image: "
                       r"00_mask000\.png.*the mask of photo\.jpg would be photo\.png"):
        inpainting(dataroot_mask=str(masks))


def test_a_mask_or_image_that_is_alone_is_named(inpainting, masks):
    shutil.copy(masks / '00.png', masks / '09.png')
    with pytest.raises(InputError, match=r"dataset 'some': mask without image: 09\.png; names must agree"):
        inpainting(dataroot_mask=str(masks))
    (masks / '09.png').unlink()
    (masks / '01.png').unlink()
    with pytest.raises(InputError, match=r"dataset 'some': image without mask: 01\.png; names must agree"):
        inpainting(dataroot_mask=str(masks))


def test_a_mask_of_another_size_is_refused_with_both_sizes(inpainting, masks):
    write_mask(masks, '01.png', hole(44, 36))
    with pytest.raises(InputError, match=r'masks/01\.png: the mask is 36x44, its image .*gt/01\.png is 44x36'):
        inpainting(dataroot_mask=str(masks))[1]


def test_grey_counts_as_hole_from_half_of_white_with_one_notice(inpainting, masks, monkeypatch):
    notices = []
    monkeypatch.setattr(mask_folder, 'get_root_logger', lambda: type('Log', (), {'warning': notices.append}))
    write_mask(masks, '00.png', hole(32, 40, inside=128, outside=127))
    write_mask(masks, '01.png', hole(36, 44, inside=200))
    dataset = inpainting(dataroot_mask=str(masks))
    assert np.array_equal(dataset[0]['mask'][0], hole(32, 40) == 255)
    assert np.array_equal(dataset[1]['mask'][0], hole(36, 44) == 255)
    assert len(notices) == 1 and '00.png' in notices[0] and 'half of white' in notices[0]


def test_a_mask_in_colour_is_refused_because_nobody_said_which_colour_is_the_hole(inpainting, masks):
    red = np.zeros((32, 40, 3), np.uint8)
    red[8:16, 8:16, 2] = 255
    write_mask(masks, '00.png', red)
    with pytest.raises(InputError, match=r'00\.png: this mask is in colour; the hole must be white'):
        inpainting(dataroot_mask=str(masks))[0]


def test_a_mask_of_zeros_and_ones_is_refused_because_it_looks_black(inpainting, masks):
    write_mask(masks, '00.png', hole(32, 40, inside=1))
    with pytest.raises(InputError, match=r'00\.png: this mask holds 0 and 1; the hole must be white, 255'):
        inpainting(dataroot_mask=str(masks))[0]


def test_black_is_the_hole_where_masks_are_inverted(inpainting, masks):
    item = inpainting(dataroot_mask=str(masks), invert_mask=True)[0]
    assert np.array_equal(item['mask'][0], hole(32, 40) == 0)


def test_training_crops_any_mask_of_the_folder_where_it_has_a_hole(inpainting, tmp_path):
    # A thousandth of it: crops anywhere would have no hole.
    write_mask(tmp_path / 'others', 'big.png', hole(500, 500))
    dataset = inpainting(phase='train', gt_size=24, dataroot_mask=str(tmp_path / 'others'))
    assert all(item['mask'].any() and item['mask'].shape == (1, 24, 24) for item in dataset)


def test_every_crop_with_a_hole_is_as_likely_as_any_other(tmp_path):
    mask = np.zeros((4, 6), np.uint8)
    mask[1, 2] = mask[3, 5] = 255
    write_mask(tmp_path, 'mask.png', mask)
    masks = mask_folder.MaskFolder({'dataroot_mask': str(tmp_path)})
    random.seed(0)
    drawn = Counter(tuple(masks.at_random(2, 2).ravel()) for _ in range(2000))
    # Of 15 crops four hold the first pixel, each elsewhere, and one the second, where one of the four has the first.
    assert drawn.keys() == {(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)}
    assert all(abs(count - (800 if crop[3] else 400)) < 80 for crop, count in drawn.items())


def test_a_mask_smaller_than_a_patch_is_refused_in_training(inpainting, tmp_path):
    write_mask(tmp_path / 'others', 'big.png', hole(30, 20))
    dataset = inpainting(phase='train', gt_size=24, dataroot_mask=str(tmp_path / 'others'))
    with pytest.raises(InputError, match=r'big\.png: a mask of 20x30 is smaller than a patch of 24x24'):
        dataset[0]


def test_a_folder_of_black_masks_is_refused_in_training(inpainting, tmp_path):
    write_mask(tmp_path / 'others', 'black.png', np.zeros((40, 40), np.uint8))
    with pytest.raises(InputError, match='100 masks had no hole; white is the hole'):
        inpainting(phase='train', gt_size=24, dataroot_mask=str(tmp_path / 'others'))[0]


def test_a_damaged_image_and_a_damaged_mask_are_named(inpainting, images, masks):
    dataset = inpainting(dataroot_mask=str(masks))
    (masks / '00.png').write_bytes(b'')
    with pytest.raises(InputError, match=r'masks/00\.png: the image file is empty'):
        dataset[0]
    content = Path(images, '01.png').read_bytes()
    Path(images, '01.png').write_bytes(content[:len(content) // 2])
    with pytest.raises(InputError, match=r'gt/01\.png: not an image, or a damaged one'):
        dataset[1]


@pytest.mark.parametrize('options, message', [
    ({}, 'needs either mask, .* or dataroot_mask'),
    ({'mask': BOX, 'dataroot_mask': 'masks'}, 'needs either mask, .* or dataroot_mask'),
    ({'mask': 'box'}, 'mask must be a section'),
    ({'mask': {'preset': 'box', 'sed': 1}}, "mask.sed'.*did you mean 'seed'"),
    ({'mask': BOX, 'dataroot_lq': 'photos'}, 'needs either dataroot_gt.*or dataroot_lq'),
    ({'mask': BOX, 'scale': 4}, 'needs scale: 1, got 4'),
    ({'mask': BOX, 'mean': [0.5] * 3}, 'has no option mean'),
    ({'dataroot_mask': 'nowhere'}, "dataset 'some': dataroot_mask: nowhere is not a folder")])
def test_options_that_cannot_work_are_refused(inpainting, options, message):
    with pytest.raises(InputError, match=message):
        inpainting(**options)


def test_an_image_for_which_no_mask_can_be_drawn_is_named(inpainting):
    with pytest.raises(InputError, match=r"no mask for .*gt/00\.png: dataset 'some': mask: 200 masks of centre"):
        inpainting(mask={'preset': 'centre', 'max_area': 0.1})[0]


def test_training_without_ground_truth_is_refused(inpainting, images):
    with pytest.raises(InputError, match='training needs dataroot_gt'):
        inpainting(phase='train', dataroot_gt=None, dataroot_lq=images, mask=BOX)
