"""`basicsr prepare`: what lies where, what an interrupt costs, what is refused."""
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from drawing import draw
from prepare_cases import SMALL, names, read, refused, run, save

import diffrwkvir_arch  # noqa: F401
from basicsr.data import build_dataset
from diffrwkvir_arch.bicubic import imresize
from diffrwkvir_arch.toolbox.options import SHIPPED_OPTIONS, load_option_file
from diffrwkvir_arch.tools import prepare
from diffrwkvir_arch.tools.preparation import folders, lmdbs
from diffrwkvir_arch.tools.preparation.pieces import Recipe, write_pieces


def pairs(gt, lq, scale, **options):
    return build_dataset({'name': 'made', 'type': 'PairedImageDataset', 'phase': 'val', 'scale': scale,
                          'dataroot_gt': str(gt), 'dataroot_lq': str(lq), **options})


def test_a_test_set_is_cropped_to_12_and_shrunk(photos):
    assert run('my photos', '-o', 'datasets/Set3', '--test', '--scales', 2, 3, 4) == 0
    assert names('datasets/Set3') == ['GTmod12', 'LRbicx2', 'LRbicx3', 'LRbicx4']
    for name, (height, width) in {'a': (96, 72), 'b': (60, 60), 'c': (24, 84)}.items():
        gt = read(f'datasets/Set3/GTmod12/{name}.png')
        assert np.array_equal(gt, photos[name][:height, :width])
        for scale in (2, 3, 4):
            assert np.array_equal(read(f'datasets/Set3/LRbicx{scale}/{name}.png'), imresize(gt, 1 / scale))


def test_sub_images_begin_where_basicsr_cuts_them():
    recipe = Recipe(shrink=1, mod=12, crop=480, step=240, thresh=0, im2double=False)
    # DIV2K's 0001.png, 2040x1404, has 40 sub-images in BasicSR's list of DIV2K800.
    assert recipe.starts(1404) == [0, 240, 480, 720, 924] and len(recipe.windows(1404, 2040)) == 40
    assert recipe.starts(960) == [0, 240, 480] and recipe.starts(480) == [0] and recipe.starts(132) == [0]
    assert Recipe(1, 12, 480, 240, 204, False).starts(1404) == [0, 240, 480, 720]


def test_lr_sub_images_are_cut_from_the_lr_at_the_places_of_the_gt(photos):
    run('my photos', '-o', 'datasets/DF2K', *SMALL, '--scales', 4)
    assert names('datasets/DF2K') == ['DF2K_HR_sub', 'DF2K_bicx4_sub', 'meta_info_DF2K_HR_sub.txt']
    gt = photos['a'][:96, :72]
    lr = imresize(gt, 1 / 4)
    # Three rows of two: tops 0, 24, 48; lefts 0, 24.
    for number, (top, left) in enumerate(((0, 0), (0, 24), (24, 0), (24, 24), (48, 0), (48, 24)), start=1):
        assert np.array_equal(read(f'datasets/DF2K/DF2K_HR_sub/a_s{number:03d}.png'), gt[top:, left:][:48, :48])
        assert np.array_equal(read(f'datasets/DF2K/DF2K_bicx4_sub/a_s{number:03d}.png'),
                              lr[top // 4:, left // 4:][:12, :12])
    assert not Path('datasets/DF2K/DF2K_HR_sub/a_s007.png').exists()


def test_an_image_smaller_than_a_sub_image_is_kept_whole_on_that_side_and_told(photos, capsys):
    run('my photos', '-o', 'datasets/DF2K', *SMALL, '--scales', 2)
    assert read('datasets/DF2K/DF2K_HR_sub/c_s001.png').shape == (24, 48, 3)
    assert '3 images, 1 smaller than a sub-image' in capsys.readouterr().out


def test_lists_and_lmdbs_hold_what_the_folders_hold(photos):
    run('my photos', '-o', 'datasets/DF2K', *SMALL, '--scales', 2, '--lmdb')
    gt, lq = 'datasets/DF2K/DF2K_HR_sub', 'datasets/DF2K/DF2K_bicx2_sub'
    lines = Path('datasets/DF2K/meta_info_DF2K_HR_sub.txt').read_text().splitlines()
    assert [line.split()[0] for line in lines] == names(gt) and lines[0] == 'a_s001.png (48,48,3)'
    assert Path(f'{lq}.lmdb/meta_info.txt').read_text().splitlines()[0] == 'a_s001.png (24,24,3) 1'
    kinds = [pairs(gt, lq, 2), pairs(f'{gt}.lmdb', f'{lq}.lmdb', 2, io_backend={'type': 'lmdb'}),
             pairs(gt, lq, 2, meta_info_file='datasets/DF2K/meta_info_DF2K_HR_sub.txt')]
    assert [len(dataset) for dataset in kinds] == [len(lines)] * 3
    for folder, *others in zip(*([dataset[i] for i in range(len(lines))] for dataset in kinds)):
        assert all((folder[side] == other[side]).all() for side in ('lq', 'gt') for other in others)


def test_grey_16_bit_alpha_and_turned_images(workdir, capsys):
    colour, deep = draw(24, 36, 0), draw(24, 36, 1).astype(np.uint16) * 257 + 5
    save('in/grey.png', colour[..., 0])
    save('in/deep.png', deep)
    save('in/alpha.png', np.dstack([colour, colour[..., :1]]))
    save('in/turned.jpg', colour)
    content = Path('in/turned.jpg').read_bytes()
    # EXIF with nothing but an orientation of 6: turn it to the right.
    exif = b'Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0'
    segment = b'\xff\xe1' + (len(exif) + 2).to_bytes(2, 'big') + exif
    Path('in/turned.jpg').write_bytes(content[:2] + segment + content[2:])
    run('in', '-o', 'datasets/odd', '--test', '--scales', 3)
    lr = {path.stem: read(path) for path in Path('datasets/odd/LRbicx3').glob('*.png')}
    assert lr['grey'].shape == (8, 12) and np.array_equal(lr['grey'], imresize(colour[..., 0].copy(), 1 / 3))
    assert lr['deep'].dtype == np.uint16 and np.array_equal(lr['deep'], imresize(deep, 1 / 3))
    assert np.array_equal(lr['alpha'], imresize(colour, 1 / 3))
    assert lr['turned'].shape == (12, 8, 3)
    assert '4 images, 1 16 bits, 1 alpha dropped, 1 grey' in capsys.readouterr().out
    assert len(pairs('datasets/odd/GTmod12', 'datasets/odd/LRbicx3', 3)) == 4


def test_colours_of_tiffs_are_not_multiplied_by_the_alpha_that_is_dropped(workdir, capsys):
    colour = draw(30, 24, 0)
    half = np.full((30, 24, 1), 128, np.uint8)
    (workdir / 'in').mkdir()
    tifffile.imwrite('in/clear.tif', np.dstack([colour[..., ::-1], half]), photometric='rgb', extrasamples=[2])
    run('in', '-o', 'out')
    assert np.array_equal(read('out/clear.png'), colour)
    assert '1 alpha dropped' in capsys.readouterr().out


def test_without_scales_the_output_is_the_gt(photos):
    run('my photos', '-o', 'datasets/murals/train', '--lmdb')
    assert names('datasets/murals') == ['meta_info_train.txt', 'train', 'train.lmdb']
    assert np.array_equal(read('datasets/murals/train/a.png'), photos['a'])


def test_the_gt_can_be_a_fraction_of_the_images(photos):
    run('my photos', '-o', 'half', '--shrink', 2)
    assert np.array_equal(read('half/a.png'), imresize(photos['a'], 1 / 2))


def test_subfolders_become_part_of_the_name(photos):
    save('my photos/sub dir/a.png', photos['b'])
    run('my photos', '-o', 'all', '--recursive')
    assert names('all') == ['a.png', 'b.png', 'c.png', 'sub_dir_a.png']


@pytest.mark.timeout(120)
def test_processes_write_what_one_writes_though_opencv_has_threads(photos):
    cv2.setNumThreads(2)
    cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (31, 31), 5)    # starts them
    run('my photos', '-o', 'one/x', *SMALL, '--scales', 2)
    run('my photos', '-o', 'two/x', *SMALL, '--scales', 2, '--workers', 2)
    for folder in ('x_HR_sub', 'x_bicx2_sub'):
        assert {name: Path('one/x', folder, name).read_bytes() for name in names(f'one/x/{folder}')} == {
            name: Path('two/x', folder, name).read_bytes() for name in names(f'two/x/{folder}')}
    assert cv2.getNumThreads() == 2


@pytest.fixture
def seen(monkeypatch):
    """The stems that are worked on; the run is interrupted before the one that is put into seen.stop_at."""

    class Seen(list):
        stop_at = None

    stems = Seen()

    def watched(job, recipe):
        if job[1] == stems.stop_at:
            raise KeyboardInterrupt
        stems.append(job[1])
        return write_pieces(job, recipe)

    monkeypatch.setattr(folders, 'write_pieces', watched)
    return stems


def test_after_an_interrupt_the_same_command_goes_on(photos, seen):
    command = ['my photos', '-o', 'datasets/DF2K', *SMALL, '--scales', 2]
    seen.stop_at = 'c'
    with pytest.raises(KeyboardInterrupt, match='the same command continues'):
        run(*command)
    assert names('datasets/DF2K') == [] and seen == ['a', 'b']
    # What a kill leaves, an image that has changed since, and one that has gone.
    unfinished, = Path('datasets/DF2K/.prepare').glob('DF2K_HR_sub.*')
    (unfinished / '.c_s001.png.partial').write_bytes(b'half')
    save('my photos/a.png', photos['b'][:50, :50])
    os.unlink('my photos/b.png')
    seen.stop_at = None
    run(*command)
    assert seen == ['a', 'b', 'a', 'c']
    assert names('datasets/DF2K/DF2K_HR_sub') == names('datasets/DF2K/DF2K_bicx2_sub')
    assert {name[0] for name in names('datasets/DF2K/DF2K_HR_sub')} == {'a', 'c'}
    assert not list(Path('datasets').rglob('*.partial')) and not Path('datasets/DF2K/.prepare').exists()
    assert np.array_equal(read('datasets/DF2K/DF2K_HR_sub/a_s001.png'), photos['b'][:48, :48])


def test_an_interrupted_lmdb_goes_on_where_it_was(photos, monkeypatch):
    monkeypatch.setattr(lmdbs, 'BATCH', 1)
    copied, copy_batch = [], lmdbs.copy_batch

    def watched(environment, folder, files, start, bar):
        if len(copied) == 4:
            copied.append('interrupt')
            raise KeyboardInterrupt
        copied.append(files[start])
        return copy_batch(environment, folder, files, start, bar)

    monkeypatch.setattr(lmdbs, 'copy_batch', watched)
    command = ['my photos', '-o', 'datasets/DF2K', *SMALL, '--scales', 2, '--lmdb']
    with pytest.raises(KeyboardInterrupt):
        run(*command)
    assert 'DF2K_HR_sub.lmdb' not in names('datasets/DF2K')
    run(*command)
    copied.remove('interrupt')
    assert copied == names('datasets/DF2K/DF2K_HR_sub') + names('datasets/DF2K/DF2K_bicx2_sub')
    assert len(pairs('datasets/DF2K/DF2K_HR_sub.lmdb', 'datasets/DF2K/DF2K_bicx2_sub.lmdb', 2)) == len(copied) / 2


def test_what_is_there_is_kept_and_scales_are_added(photos, seen, capsys):
    run('my photos', '-o', 'datasets/DF2K', '--scales', 2)
    before = os.stat('datasets/DF2K/DF2K_HR/a.png').st_mtime_ns
    run('my photos', '-o', 'datasets/DF2K', '--scales', 2, 4)
    assert os.stat('datasets/DF2K/DF2K_HR/a.png').st_mtime_ns == before and len(seen) == 6
    out = capsys.readouterr().out
    assert 'DF2K_HR: was there already' in out and 'DF2K_bicx4: made' in out
    run('my photos', '-o', 'datasets/DF2K', '--scales', 2, 4)
    assert len(seen) == 6


def test_nothing_is_replaced_without_force(photos):
    save('datasets/DF2K/DF2K_HR/mine.png', photos['a'])
    command = ['my photos', '-o', 'datasets/DF2K', '--scales', 2]
    assert 'DF2K_HR exists and was not made by basicsr prepare; --force replaces it' in refused(*command)
    assert names('datasets/DF2K') == ['DF2K_HR']
    run(*command, '--force')
    assert names('datasets/DF2K/DF2K_HR') == ['a.png', 'b.png', 'c.png']
    message = refused('my photos', '-o', 'datasets/DF2K', '--scales', 8)
    assert 'mod 12, now 24' in message
    save('my photos/d.png', photos['a'])
    assert 'the images have changed' in refused(*command)
    run(*command, '--force')
    assert names('datasets/DF2K/DF2K_bicx2') == ['a.png', 'b.png', 'c.png', 'd.png']


def test_what_is_no_folder_of_files_is_never_replaced(photos):
    save('home/pictures/mine.png', photos['a'])
    Path('file').touch()
    os.symlink('home/pictures', 'link')
    for place in ('home', 'file', 'link'):
        assert f'{place} is a link, a file or a folder with folders' in refused('my photos', '-o', place, '--force')
    assert names('home/pictures') == ['mine.png']


def test_force_makes_the_lmdb_anew_too_and_forgets_an_unfinished_one(photos, monkeypatch):
    command = ['my photos', '-o', 'datasets/DF2K', '--scales', 2, '--lmdb']
    run(*command)
    write_lines = lmdbs.write_lines
    monkeypatch.setattr(lmdbs, 'write_lines', lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(*command, '--force')
    monkeypatch.setattr(lmdbs, 'write_lines', write_lines)
    save('my photos/a.png', photos['b'])
    list_of_gt = Path('datasets/DF2K/meta_info_DF2K_HR.txt')
    assert 'a.png (96,72,3)' in list_of_gt.read_text()
    run(*command, '--force')
    assert 'a.png (60,60,3)' in list_of_gt.read_text()
    item = pairs('datasets/DF2K/DF2K_HR.lmdb', 'datasets/DF2K/DF2K_bicx2.lmdb', 2)[0]
    assert item['gt'].shape == (3, 60, 60)


def test_bad_images_are_named_and_the_others_done(photos, seen):
    Path('my photos/bad.png').write_text('no image')
    Path('my photos/cut.png').write_bytes(Path('my photos/a.png').read_bytes()[:-20])
    Path('my photos/none.jpg').touch()
    save('my photos/thin.png', photos['a'][:, :7])
    save('my photos/floats.tiff', photos['a'].astype(np.float32))
    message = refused('my photos', '-o', 'out', '--test', '--scales', 2)
    assert message.startswith('5 of 8 images cannot be used: ') and 'and 2 more' in message
    assert 'bad.png: not an image' in message and 'cut.png: not an image' in message
    assert not names('out')
    for name in ('bad.png', 'cut.png', 'none.jpg', 'floats.tiff'):
        os.unlink(f'my photos/{name}')
    assert 'thin.png: 7x100 is smaller than 12 pixels' in refused('my photos', '-o', 'out', '--test', '--scales', 2)
    os.unlink('my photos/thin.png')
    run('my photos', '-o', 'out', '--test', '--scales', 2)
    assert sorted(set(seen)) == ['a', 'b', 'bad', 'c', 'cut', 'floats', 'none', 'thin'] and seen.count('a') == 1


@pytest.mark.parametrize('arguments, message', [
    (['-o', 'out'], 'which images'),
    (['my photos'], '-o is missing'),
    (['my photo', '-o', 'out'], 'my photo is not there'),
    (['.', '-o', 'out'], '. holds no images'),
    (['my photos', 'twin', '-o', 'out'], "my photos/a.png and twin/a.jpg would both become 'a'"),
    (['my photos', '-o', 'out', '--test', '--sub', '--scales', '2'], '--test keeps images whole'),
    (['my photos', '-o', 'out', '--test'], '--test needs --scales'),
    (['my photos', '-o', 'out', '--scales', '1'], '--scales must be at least 2, got 1'),
    (['my photos', '-o', 'out', '--scales', '4', '--mod', '6'], '--mod must be a multiple of 4'),
    (['my photos', '-o', 'out', '--scales', '4', '--sub', '--step', '50'], '--step must be a multiple of 4'),
    (['my photos', '-o', 'out', '--workers', '0'], '--workers must be at least 1'),
    (['my photos', '-o', 'my photos'], 'my photos would be replaced'),
    (['my photos', '-o', 'my photos/out', '--recursive'], 'the output must not lie in my photos'),
    (['my photos', '-o', 'twin/a.jpg/x'], '-o: nothing can be written to '),
    (['--check', 'x.yml', '-o', 'out'], '--check takes option files alone'),
])
def test_what_cannot_work_is_told_in_one_line(photos, arguments, message):
    save('twin/a.jpg', photos['a'])
    assert message in refused(*arguments)


def test_the_folders_have_the_names_that_shipped_option_files_use():
    recipe = Recipe(1, 12, 480, 240, 0, False)
    made = {str(path) for out, test in (('DF2K', False), *((name, True) for name in (
        'Set5', 'Set14', 'BSDS100', 'urban100', 'manga109')))
        for path in prepare.folder_paths(Path('datasets', out), recipe, [2, 3, 4], test).values()}
    named = {section[key] for file in SHIPPED_OPTIONS.glob('*_x[234].yml')
             for section in load_option_file(file)['datasets'].values() if section.get('dataroot_gt')
             for key in ('dataroot_gt', 'dataroot_lq') if key in section}
    assert named <= made


def test_the_record_tells_how_a_folder_was_made(photos):
    run('my photos', '-o', 'set', '--test', '--scales', 4)
    record = json.loads(Path('set/LRbicx4/.prepare.json').read_text())
    assert (record['scale'], record['mod'], record['crop']) == (4, 12, None)
