"""Datasets: what pairs, what their items hold, and what is refused with the name of the file."""
import cv2
import numpy as np
import pytest
import torch
from basicsr.data import build_dataset
from lmdb_cases import make_lmdb

from diffrwkvir_arch.data.paired_image_dataset import PairedImageDataset
from diffrwkvir_arch.data.pairing import fitting_template, pair_names
from diffrwkvir_arch.data.single_image_dataset import SingleImageDataset
from diffrwkvir_arch.errors import InputError


@pytest.fixture
def paired(image_folders):
    """Builds a PairedImageDataset of image_folders with the given options."""
    gt, lq = image_folders

    def build(**options):
        return build_dataset({
            'name': 'some', 'type': 'PairedImageDataset', 'phase': 'val', 'scale': 2, 'dataroot_gt': str(gt),
            'dataroot_lq': str(lq), 'io_backend': {'type': 'disk'}, **options
        })

    return build


def test_the_registry_hands_out_the_mended_datasets(paired):
    assert type(paired()) is PairedImageDataset


def test_pairs_come_in_the_order_of_their_names_whatever_the_folder_says(paired, monkeypatch):
    import os
    listed = os.listdir
    monkeypatch.setattr(os, 'listdir', lambda folder: listed(folder)[::-1])
    dataset = paired()
    assert [item['gt_path'][-6:] for item in dataset.paths] == [f'{number:02d}.png' for number in range(6)]


def test_an_item_is_rgb_in_zero_to_one(paired, image_folders):
    item = paired()[0]
    assert item['lq'].shape == (3, 16, 20) and item['gt'].shape == (3, 32, 40)
    assert item['lq'].dtype == torch.float32 and 0 <= item['gt'].min() and item['gt'].max() <= 1
    bgr = cv2.imread(str(image_folders[0] / '00.png'))
    assert np.array_equal((item['gt'].permute(1, 2, 0).numpy() * 255).round(), bgr[..., ::-1])


def test_a_training_item_is_a_patch_with_its_lq_at_the_same_place(paired, image_folders):
    for path in image_folders[0].iterdir():
        gt = cv2.imread(str(path))
        cv2.imwrite(str(image_folders[1] / path.name), gt[::2, ::2])
    dataset = paired(phase='train', gt_size=16, use_hflip=False, use_rot=False)
    for item in (dataset[index] for index in range(6)):
        assert item['gt'].shape == (3, 16, 16)
        assert torch.equal(item['gt'][:, ::2, ::2], item['lq'])


def test_augmentation_turns_both_alike(paired, image_folders):
    for path in image_folders[0].iterdir():
        gt = cv2.imread(str(path))
        cv2.imwrite(str(image_folders[0] / path.name), np.kron(gt[::2, ::2], np.ones((2, 2, 1), np.uint8)))
        cv2.imwrite(str(image_folders[1] / path.name), gt[::2, ::2])
    dataset = paired(phase='train', gt_size=16, use_hflip=True, use_rot=True)
    for item in (dataset[index % 6] for index in range(24)):
        assert torch.equal(item['gt'][:, ::2, ::2], item['lq'])


def test_without_gt_size_training_takes_whole_images(paired):
    assert paired(phase='train')[0]['gt'].shape == (3, 32, 40)


@pytest.mark.parametrize('bad', [b'', b'no image at all', b'\x89PNG\r\n\x1a\nrest is missing'])
def test_a_damaged_or_empty_image_is_named(paired, image_folders, bad):
    (image_folders[1] / '03.png').write_bytes(bad)
    with pytest.raises(InputError, match=r'lq/03\.png'):
        paired()[3]


def test_an_image_cut_short_is_refused_instead_of_half_grey(paired, image_folders):
    content = (image_folders[0] / '03.png').read_bytes()
    (image_folders[0] / '03.png').write_bytes(content[:len(content) // 2])
    with pytest.raises(InputError, match=r'gt/03\.png'):
        paired()[3]


def test_a_damaged_image_is_named_from_a_worker_process(paired, image_folders):
    (image_folders[1] / '03.png').write_bytes(b'')
    loader = torch.utils.data.DataLoader(paired(), num_workers=1)
    with pytest.raises(InputError) as error:
        list(loader)
    assert '03.png: the image file is empty (0 bytes)' in str(error.value).splitlines()[-1]


def test_alpha_is_dropped_with_one_notice_a_dataset(paired, image_folders, monkeypatch):
    from diffrwkvir_arch.data import image_source
    notices = []
    monkeypatch.setattr(image_source, 'get_root_logger', lambda: type('Log', (), {'warning': notices.append}))
    for number in range(3):
        path = str(image_folders[1] / f'{number:02d}.png')
        cv2.imwrite(path, cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2BGRA))
    dataset = paired()
    assert [dataset[number]['lq'].shape[0] for number in range(4)] == [3] * 4
    assert len(notices) == 1 and "dataset 'some'" in notices[0] and 'alpha' in notices[0]


def test_other_files_in_the_folders_are_left_out(paired, image_folders):
    for folder in image_folders:
        (folder / 'Thumbs.db').write_bytes(b'x')
        (folder / 'readme.txt').write_text('x')
        (folder / '.hidden.png').write_bytes(b'x')
        (folder / 'sub').mkdir()
    assert len(paired()) == 6


def test_a_template_pairs_other_names(paired, image_folders):
    for path in list(image_folders[1].iterdir()):
        path.rename(path.with_name(f'{path.stem}x2.png'))
    assert len(paired(filename_tmpl='{}x2')) == 6
    with pytest.raises(InputError, match=r"GT without LQ: 00\.png, 01\.png.* and 1 more.*LQ without GT: 00x2\.png.*"
                       r"filename_tmpl: '{}x2' would pair them"):
        paired()


@pytest.mark.parametrize('template', ['x4', '{}{}', '{0}', 4])
def test_a_template_without_its_braces_is_refused(paired, template):
    with pytest.raises(InputError, match='filename_tmpl must hold {} once'):
        paired(filename_tmpl=template)


def test_images_without_partner_are_listed_both_ways(paired, image_folders):
    (image_folders[0] / '02.png').unlink()
    (image_folders[1] / '04.png').unlink()
    with pytest.raises(InputError, match=r"dataset 'some': GT without LQ: 04\.png; LQ without GT: 02\.png"):
        paired()


def test_partners_may_differ_in_their_extension(paired, image_folders):
    for path in list(image_folders[1].iterdir()):
        cv2.imwrite(str(path.with_suffix('.jpg')), cv2.imread(str(path)))
        path.unlink()
    assert paired().paths[2]['lq_path'].endswith('02.jpg')


def test_of_two_files_of_one_stem_each_takes_its_own_extension():
    names = ['a.jpg', 'a.png']
    assert pair_names(names, names, '{}', 'x') == ([('a.jpg', 'a.jpg'), ('a.png', 'a.png')], [])
    pairs, left = pair_names(['a.png'], ['a.bmp', 'a.jpg'], '{}', 'x')
    assert pairs == [(None, 'a.png')] and left == ['a.bmp', 'a.jpg']


def test_the_template_that_fits_all_is_found():
    assert fitting_template(['1.png', '11.png'], ['1_LR.jpg', '11_LR.jpg']) == '{}_LR'
    assert fitting_template(['a.png', 'b.png'], ['ax4.png', 'cx4.png']) is None


def test_a_list_chooses_images_and_may_hold_blank_lines(paired, tmp_path):
    names = tmp_path / 'list.txt'
    names.write_text('03.png (32,40,3)\n\n01.png (32,40,3)\n\n')
    assert [item['gt_path'][-6:] for item in paired(meta_info_file=str(names)).paths] == ['03.png', '01.png']
    names.write_text('07.png (32,40,3)\n')
    with pytest.raises(InputError, match=r'GT without LQ: 07\.png'):
        paired(meta_info_file=str(names))


def test_missing_folders_are_named_with_their_option(paired):
    with pytest.raises(InputError, match="dataset 'some': dataroot_lq: nowhere is not a folder"):
        paired(dataroot_lq='nowhere')
    with pytest.raises(InputError, match='dataroot_lq is missing; type: DegradationDataset, degradation:'):
        paired(dataroot_lq=None)


def test_a_folder_without_images_is_named(paired, tmp_path):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError, match='dataroot_gt: .*empty holds no images'):
        paired(dataroot_gt=str(tmp_path / 'empty'))
    (tmp_path / 'empty/.hidden').mkdir()
    with pytest.raises(InputError, match=r'holds no images \([^)]*\)$'):
        paired(dataroot_gt=str(tmp_path / 'empty'))
    (tmp_path / 'empty/sub').mkdir()
    with pytest.raises(InputError, match='subfolders are not searched, basicsr prepare --recursive'):
        paired(dataroot_gt=str(tmp_path / 'empty'))


def test_validation_crops_a_gt_that_is_less_than_a_scale_larger(paired, image_folders):
    path = str(image_folders[1] / '00.png')
    cv2.imwrite(str(image_folders[0] / '00.png'), np.zeros((33, 41, 3), np.uint8))
    assert paired()[0]['gt'].shape == (3, 32, 40)
    with pytest.raises(InputError, match=r'lq/00\.png is 20x16, GT .*gt/00\.png is 41x33, not 2 times as large'):
        paired(phase='train')[0]
    cv2.imwrite(path, np.zeros((8, 10, 3), np.uint8))
    with pytest.raises(InputError, match=r'wrong scale or wrong pair: LQ .*00\.png is 10x8'):
        paired()[0]


def test_a_patch_larger_than_an_image_is_refused_with_the_file(paired):
    with pytest.raises(InputError, match=r'00\.png: 40x32 is smaller than a patch of gt_size 34'):
        paired(phase='train', gt_size=34)[0]


def test_luma_alone(paired):
    item = paired(color='y')[0]
    assert item['lq'].shape == (1, 16, 20) and item['gt'].shape == (1, 32, 40)


def test_mean_and_std_normalise(paired):
    plain, normal = paired()[0], paired(mean=[0.5] * 3, std=[0.25] * 3)[0]
    torch.testing.assert_close(normal['lq'], (plain['lq'] - 0.5) / 0.25)


def test_lmdbs_give_what_folders_give(paired, image_folders):
    plain = paired()[2]
    roots = {f'dataroot_{side}': make_lmdb(folder) for side, folder in zip(('gt', 'lq'), image_folders)}
    for backend in ({'type': 'lmdb'}, {}, None):
        item = paired(**roots, io_backend=backend)[2]
        assert torch.equal(item['lq'], plain['lq']) and torch.equal(item['gt'], plain['gt'])
    assert item['lq_path'] == '02'


def test_a_list_chooses_keys_of_lmdbs_too(paired, image_folders, tmp_path):
    roots = {f'dataroot_{side}': make_lmdb(folder) for side, folder in zip(('gt', 'lq'), image_folders)}
    names = tmp_path / 'list.txt'
    names.write_text('03.png (32,40,3)\n01.png (32,40,3)\n')
    assert [item['gt_path'] for item in paired(**roots, io_backend={'type': 'lmdb'}, meta_info_file=str(names)).paths] \
        == ['03', '01']
    names.write_text('03.png (32,40,3)\n07.png (32,40,3)\n')
    with pytest.raises(InputError, match='meta_info_file: 1 of its 2 images, such as 07, are not in'):
        paired(**roots, io_backend={'type': 'lmdb'}, meta_info_file=str(names))


def test_keys_in_folders_pair_with_the_same_keys():
    keys = ['000/01', '001/01']
    assert pair_names(keys, keys, '{}', 'it') == ([(key, key) for key in keys], [])
    with pytest.raises(InputError, match='GT a/01.png and b/01.png both pair with LQ 01.png'):
        pair_names(['a/01.png', 'b/01.png'], ['01.png'], '{}', 'it')
    # A list may name an image twice.
    assert pair_names(['01.png', '01.png'], ['01.png'], '{}', 'it') == ([('01.png', '01.png')] * 2, [])


def test_lmdbs_with_different_keys_are_refused(paired, image_folders):
    roots = {f'dataroot_{side}': make_lmdb(folder) for side, folder in zip(('gt', 'lq'), image_folders)}
    (image_folders[1].parent / 'lq.lmdb' / 'meta_info.txt').write_text('00.png (16,20,3) 1\n99.png (16,20,3) 1\n')
    with pytest.raises(InputError, match='GT without LQ: 01, 02, 03, 04, 05; LQ without GT: 99'):
        paired(**roots, io_backend={'type': 'lmdb'})


def test_one_lmdb_and_one_folder_are_refused(paired, image_folders):
    with pytest.raises(InputError, match='needs folders named NAME.lmdb'):
        paired(dataroot_gt=make_lmdb(image_folders[0]), io_backend={'type': 'lmdb'})


def test_single_images_have_no_gt(image_folders):
    folder = str(image_folders[1])
    dataset = build_dataset({'name': 'own', 'type': 'SingleImageDataset', 'phase': 'test', 'dataroot_lq': folder})
    assert type(dataset) is SingleImageDataset and len(dataset) == 6
    assert set(dataset[0]) == {'lq', 'lq_path'} and dataset[0]['lq'].shape == (3, 16, 20)
