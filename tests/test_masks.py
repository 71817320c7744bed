"""Masks for inpainting: what presets cover, what repeats, what `basicsr masks` freezes."""
import csv
import random

import cv2
import numpy as np
import pytest

from diffrwkvir_arch.data.inpainting_dataset import InpaintingDataset
from diffrwkvir_arch.data.mask_presets import PRESETS, DrawnMasks
from diffrwkvir_arch.data.masks import boxes, strokes
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.tools import masks as masks_verb
from diffrwkvir_arch.tools.arguments import masks as arguments

# Mean share of the image, measured on masks of LaMa's parameters drawn by other code.
COVER = {'lama_thin_256': 0.29, 'lama_medium_256': 0.23, 'lama_thick_256': 0.26, 'lama_thin_512': 0.28,
         'lama_medium_512': 0.28, 'lama_thick_512': 0.26, 'lama_train_256': 0.35}


def areas(preset, count, side, **options):
    masks = DrawnMasks('mask', preset, **options)
    return np.array([masks.of_stem(str(number), side, side).mean() for number in range(count)])


@pytest.mark.parametrize('preset', COVER)
def test_lamas_presets_cover_what_lamas_masks_cover(preset):
    found = areas(preset, 120, int(preset[-3:]))
    assert abs(found.mean() - COVER[preset]) < 0.05
    assert found.min() > 0 and found.max() <= (1 if 'train' in preset else 0.5)


def test_training_masks_may_cover_more_than_half():
    assert areas('lama_train_256', 120, 256).max() > 0.5


@pytest.mark.parametrize('preset, area', [('centre', 0.25), ('box', 0.25), ('border', 0.75)])
def test_centre_box_and_border_cover_what_their_size_says(preset, area):
    assert np.allclose(areas(preset, 3, 64), area)


def test_size_sets_the_holes_sides():
    mask = DrawnMasks('mask', 'centre', size=0.1).of_stem('a', 40, 60)
    assert mask[18:22, 27:33].all() and mask.sum() == 4 * 6
    frame = DrawnMasks('mask', 'border', size=0.1).of_stem('a', 40, 60)
    assert not frame[4:36, 6:54].any() and frame.sum() == 40 * 60 - 32 * 48


def test_a_box_lies_anywhere():
    corners = {tuple(np.argwhere(DrawnMasks('mask', 'box').of_stem(str(n), 64, 64))[0]) for n in range(20)}
    assert len(corners) > 15


def test_help_names_all_presets():
    presets = arguments.NOTES.partition('\n\n')[0].removeprefix('presets: ')
    assert presets.replace(',\n', ', ').split(', ') == list(PRESETS)


@pytest.mark.parametrize('preset', PRESETS)
def test_every_mask_has_the_images_shape_zeros_ones_and_a_hole(preset):
    masks = DrawnMasks('mask', preset)
    for height, width in ((200, 320), (320, 200), (64, 64)):
        mask = masks.of_stem('a', height, width)
        assert mask.shape == (height, width) and mask.dtype == np.float32
        assert set(np.unique(mask)) == {0, 1}


def test_boxes_keep_their_margin_count_and_sides():
    rng = np.random.default_rng(0)
    for _ in range(50):
        mask = boxes((100, 120), rng, count=(1, 1), side=(20, 30), margin=10)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert 10 <= rows[0] and rows[-1] < 90 and 10 <= columns[0] and columns[-1] < 110
        assert 20 <= len(rows) <= 30 and 20 <= len(columns) <= 30
        assert mask.sum() == len(rows) * len(columns)


def test_a_box_is_no_larger_than_its_image_allows():
    assert boxes((24, 90), np.random.default_rng(0), count=(1, 1), side=(30, 150), margin=10).sum(0).max() <= 4
    with pytest.raises(InputError, match='20x18 pixels has no room for boxes 10 pixels from its border'):
        boxes((18, 20), np.random.default_rng(0), count=(1, 1), side=(30, 150), margin=10)


def test_wider_and_longer_strokes_cover_more():
    def cover(count, length, width):
        rng = np.random.default_rng(0)
        return np.mean([strokes((256, 256), rng, count, length, width).mean() for _ in range(40)])

    assert cover((1, 5), 40, 10) < cover((1, 5), 200, 10) < cover((1, 5), 200, 100)
    assert cover((1, 2), 40, 10) < cover((20, 30), 40, 10)


def test_a_mask_follows_from_seed_and_stem_alone():
    def mask(seed, stem):
        return DrawnMasks('mask', 'lama_thick_256', seed=seed).of_stem(stem, 128, 128)

    once = mask(3, 'cat')
    random.seed(9)
    np.random.seed(9)
    assert np.array_equal(mask(3, 'cat'), once)
    assert not np.array_equal(mask(4, 'cat'), once) and not np.array_equal(mask(3, 'dog'), once)


def test_masks_in_training_follow_the_random_state_and_change():
    masks = DrawnMasks('mask', 'lama_train_256')
    random.seed(1)
    first, second = masks.at_random(64, 64), masks.at_random(64, 64)
    random.seed(1)
    assert np.array_equal(masks.at_random(64, 64), first) and not np.array_equal(first, second)


def test_max_area_holds_and_one_that_cannot_is_refused():
    assert areas('lama_thick_256', 40, 256, max_area=0.2).max() <= 0.2
    with pytest.raises(InputError, match=r'mask: 200 masks of centre for an image of 64x32 .* max_area 0.1'):
        DrawnMasks('mask', 'centre', max_area=0.1).of_stem('a', 32, 64)


def test_of_several_presets_each_is_drawn():
    found = areas(['centre', 'border'], 30, 64)
    assert set(np.round(found, 2)) == {0.25, 0.75}


@pytest.mark.parametrize('options, message', [
    ({'preset': 'lama_thik_256'}, "unknown preset 'lama_thik_256' .did you mean 'lama_thick_256'"),
    ({'preset': []}, 'preset must be a name or a list of names'),
    ({'preset': 'lama_thin_256', 'size': 0.5}, 'only box, centre and border have a size'),
    ({'preset': 'border', 'size': 0.5}, 'size must be above 0 and below 0.5'),
    ({'preset': 'box', 'max_area': 2}, 'max_area must be above 0 and at most 1, got 2'),
    ({'preset': 'box', 'seed': -1}, 'seed must be a whole number')])
def test_impossible_options_are_refused_by_name(options, message):
    with pytest.raises(InputError, match=message):
        DrawnMasks('mask', **options)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / 'photos'
    folder.mkdir()
    for number in range(6):
        cv2.imwrite(str(folder / f'{number:02d}.png'), np.full((128, 160, 3), 40 * number, np.uint8))
    return folder


@pytest.fixture
def frozen(photos, tmp_path):
    masks_verb.main([str(photos), '--preset', 'lama_medium_256', '--seed', '5', '-o', str(tmp_path / 'set')])
    return tmp_path / 'set'


def test_a_frozen_set_holds_the_masks_that_its_preset_and_seed_draw(frozen, photos):
    gt = str(photos)
    drawn = InpaintingDataset({'name': 'drawn', 'phase': 'val', 'dataroot_gt': gt,
                               'mask': {'preset': 'lama_medium_256', 'seed': 5}})
    read = InpaintingDataset({'name': 'read', 'phase': 'val', 'dataroot_gt': gt,
                              'dataroot_mask': str(frozen / 'masks')})
    assert len(read) == 6
    for one, other in zip(drawn, read):
        assert np.array_equal(one['mask'], other['mask']) and np.array_equal(one['lq'], other['lq'])


def test_the_manifest_tells_preset_seed_size_and_area_of_each_mask(frozen):
    with open(frozen / 'manifest.csv', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    assert [row['mask'] for row in rows] == [f'{number:02d}.png' for number in range(6)]
    for row in rows:
        mask = cv2.imread(str(frozen / 'masks' / row['mask']), cv2.IMREAD_UNCHANGED)
        assert mask.shape == (128, 160) and (row['width'], row['height']) == ('160', '128')
        assert set(np.unique(mask)) == {0, 255}
        assert row['preset'] == 'lama_medium_256' and row['seed'] == '5'
        assert float(row['area']) == pytest.approx((mask == 255).mean(), abs=1e-4)


def test_of_several_presets_the_manifest_tells_which_one_drew_a_mask(photos, tmp_path):
    folder = tmp_path / 'mixed'
    masks_verb.main([str(photos), '--preset', 'centre', 'border', '-o', str(folder)])
    with open(folder / 'manifest.csv', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    assert {row['preset'] for row in rows} == {'centre', 'border'}
    for row in rows:
        middle = cv2.imread(str(folder / 'masks' / row['mask']), cv2.IMREAD_UNCHANGED)[64, 80]
        assert (middle == 255) == (row['preset'] == 'centre')


def test_the_preview_shows_the_holes_in_grey(frozen):
    preview = cv2.imread(str(frozen / 'preview.png'))
    assert preview.shape[0] > 160 and preview.shape[1] > 6 * 160
    assert (preview == 128).all(2).sum() > 1000


def test_a_set_is_never_written_into_another(frozen, photos):
    with pytest.raises(InputError, match='exists and is not empty'):
        masks_verb.main([str(photos), '--preset', 'box', '-o', str(frozen)])


def test_after_an_interrupt_the_same_command_begins_anew(photos, tmp_path, monkeypatch):
    command = [str(photos), '--preset', 'box', '-o', str(tmp_path / 'new' / 'set')]
    with monkeypatch.context() as stopping:
        stopping.setattr(masks_verb, 'preview', lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            masks_verb.main(command)
    (tmp_path / 'new/set/masks/of_another_image.png').touch()
    masks_verb.main(command)
    assert sorted(path.name for path in (tmp_path / 'new/set').iterdir()) == ['manifest.csv', 'masks', 'preview.png']
    assert len(list((tmp_path / 'new/set/masks').iterdir())) == 6


def test_images_of_one_stem_cannot_share_a_mask_file(photos, tmp_path):
    cv2.imwrite(str(photos / '00.jpg'), np.zeros((32, 40, 3), np.uint8))
    with pytest.raises(InputError, match='another image has the stem 00 too'):
        masks_verb.main([str(photos), '--preset', 'box', '-o', str(tmp_path / 'set')])
