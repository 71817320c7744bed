"""What the demo and the benchmarks are made of: pairs, LMDBs, scores, pictures, and the demo from end to end."""
import csv

import cv2
import diffrwkvir_arch  # noqa: F401
import numpy as np
import pytest
from basicsr.data import build_dataset
from basicsr.utils.matlab_functions import imresize
from diffrwkvir_arch.bicubic import imresize_once_rounded
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.tools import demo, pairs, pictures, scores, stages
from skimage.metrics import structural_similarity


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (50, 67, 3), dtype=np.uint8)


def test_pairs_are_cropped_to_the_scale_and_shrunk_by_matlabs_bicubic(tmp_path, image):
    pairs.write_pairs({'a': image}, tmp_path, 4)
    gt, lq = (cv2.imread(str(tmp_path / kind / 'a.png')) for kind in ('GT', 'LQ'))
    assert np.array_equal(gt, image[:48, :64])
    expected = imresize(image[:48, :64].astype(np.float32) / 255, 0.25)
    assert np.array_equal(lq, (expected.clip(0, 1) * 255).round())


def test_sub_images_cover_the_image_and_pair_up(tmp_path, image):
    pairs.write_pairs({'a': image}, tmp_path, 2, crop=(32, 16))
    names = sorted(path.name for path in (tmp_path / 'GT').iterdir())
    assert names == sorted(path.name for path in (tmp_path / 'LQ').iterdir()) and len(names) == 3 * 4
    whole = imresize_once_rounded(image[:50, :66], 1 / 2)
    last = cv2.imread(str(tmp_path / 'LQ' / 'a_s012.png'))
    assert np.array_equal(last, whole[-16:, -16:])


def test_writing_pairs_again_leaves_nothing_of_the_first_time(tmp_path, image):
    pairs.write_pairs({'old': image}, tmp_path, 2)
    pairs.write_pairs({'new': image}, tmp_path, 2)
    assert [path.name for path in (tmp_path / 'GT').iterdir()] == ['new.png']


def test_an_lmdb_of_pairs_trains_like_their_folder(tmp_path):
    rng = np.random.default_rng(0)
    # The first is far smaller than the others: BasicSR's own guess of the room would not hold them.
    images = {'a': np.zeros((48, 48, 3), np.uint8), 'b': rng.integers(0, 256, (480, 480, 3), dtype=np.uint8)}
    pairs.write_pairs(images, tmp_path, 4)
    items = []
    for kind in ('GT', 'LQ'):
        pairs.write_lmdb(tmp_path / kind)
    for ending, backend in (('', 'disk'), ('.lmdb', 'lmdb')):
        dataset = build_dataset({
            'name': 'pairs', 'type': 'PairedImageDataset', 'phase': 'val', 'scale': 4, 'io_backend': {'type': backend},
            'dataroot_gt': str(tmp_path / f'GT{ending}'), 'dataroot_lq': str(tmp_path / f'LQ{ending}')})
        items.append([dataset[i] for i in range(len(dataset))])
    for folder, lmdb in zip(*items):
        assert (folder['lq'] == lmdb['lq']).all() and (folder['gt'] == lmdb['gt']).all()


def test_psnr_and_ssim_agree_with_a_hand_calculation_and_scikit_image(image):
    rng = np.random.default_rng(1)
    other = np.clip(image + rng.normal(0, 10, image.shape), 0, 255).round().astype(np.uint8)
    y = [img[4:-4, 4:-4].astype(np.float64) @ [24.966, 128.553, 65.481] / 255 + 16 for img in (image, other)]
    result = scores.score(image, other, 4)
    assert result['psnr_y'] == pytest.approx(10 * np.log10(255**2 / np.mean((y[0] - y[1])**2)), abs=1e-3)
    expected = structural_similarity(*y, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    assert result['ssim_y'] == pytest.approx(expected, abs=5e-3)  # scikit-image averages over the border as well


def test_means_and_tables_keep_the_order_of_their_rows():
    rows = [{'set': 's', 'image': i, 'method': m, 'psnr_y': p, 'ssim_y': 0.5}
            for i, m, p in (('a', 'x', 20.0), ('a', 'y', 30.0), ('b', 'x', 22.0), ('b', 'y', 34.0))]
    means = scores.mean_rows(rows, ('set', 'method'))
    assert means == [{'set': 's', 'method': 'x', 'psnr_y': 21.0, 'ssim_y': 0.5},
                     {'set': 's', 'method': 'y', 'psnr_y': 32.0, 'ssim_y': 0.5}]
    assert scores.markdown_table(means).splitlines()[2] == '| s   | x      | 21.00  | 0.5000 |'


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(InputError, match='nothing.png'):
        scores.read_image(tmp_path / 'nothing.png')


def test_the_picture_frames_the_crop_where_bicubic_fails():
    gt = np.zeros((96, 96, 3), np.uint8)
    bicubic = gt.copy()
    bicubic[40:60, 70:90] = 255
    assert pictures.hardest_crop(gt, bicubic, 20) == (40, 70)
    lq = gt[::4, ::4]
    out = pictures.side_by_side(gt, {'LQ (nearest)': lq, 'bicubic': bicubic}, 4, size=20)
    red = (out == (0, 0, 255)).all(2)
    assert red.any() and out.shape[0] == 80 + pictures.LABEL


@pytest.mark.parametrize('shape', [(96, 96), (17, 40), (5, 5)])
def test_pictures_of_any_size_can_be_drawn(shape):
    gt = np.zeros((*(side // 4 * 4 for side in shape), 3), np.uint8)
    out = pictures.side_by_side(gt, {'LQ (nearest)': gt[::4, ::4], 'bicubic': gt}, 4)
    assert out.dtype == np.uint8 and out.shape[2] == 3 and out.shape[0] > pictures.LABEL


def test_a_failing_command_reports_its_own_error_line(tmp_path):
    option_file = tmp_path / 'broken.yml'
    option_file.write_text('name: [', encoding='utf-8')
    with pytest.raises(InputError, match=r'broken\.yml.*line 1'):
        stages.basicsr('train', option_file, tmp_path)


def test_the_demo_runs_from_end_to_end_in_a_folder_with_spaces(tmp_path, monkeypatch, capsys):
    root = tmp_path / 'a folder'
    root.mkdir()
    monkeypatch.chdir(root)
    demo.main(['--iterations', '10'])
    assert (root / 'datasets/demo/train/GT.lmdb').is_dir()
    table = capsys.readouterr().out
    assert '| mean      | stage2  |' in table
    with (root / 'results/demo/metrics.csv').open(encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ['image', 'method', 'psnr_y', 'ssim_y']
    assert [(row['image'], row['method']) for row in rows] == [
        (image, method) for image in demo.HELD_OUT for method in ('bicubic', 'stage1', 'stage2')]
    # Bicubic's values on these photographs, x4: nothing that training could change.
    bicubic = [float(row['psnr_y']) for row in rows if row['method'] == 'bicubic']
    assert bicubic == pytest.approx([26.84, 31.48], abs=0.02)
    for name in demo.HELD_OUT:
        assert cv2.imread(str(root / f'results/demo/{name}_x4.png')) is not None


def test_the_demo_replaces_nobodys_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'datasets/demo/train/GT').mkdir(parents=True)
    (tmp_path / 'datasets/demo/train/GT/mine.png').touch()
    with pytest.raises(InputError, match='holds files that are not of this demo'):
        demo.main(['--iterations', '10'])
    assert (tmp_path / 'datasets/demo/train/GT/mine.png').exists()


def test_ctrl_c_lets_the_command_finish_what_it_saves(tmp_path, monkeypatch):
    """A stand-in for `basicsr train` prints a line, and after the interrupt another one."""
    command = tmp_path / 'command.py'
    command.write_text('print("first", flush=True); input(); print("saved", flush=True)', encoding='utf-8')
    popen = stages.subprocess.Popen

    class Process(popen):

        def __init__(self, args, **options):
            super().__init__([stages.sys.executable, str(command)], stdin=stages.subprocess.PIPE, **options)
            lines, pipe = self.stdout, self.stdin

            class Interrupted:
                """Yields the first line, then raises as Ctrl-C does, then yields what is left."""
                interrupted = False

                def __iter__(self):
                    yield lines.readline()
                    if not self.interrupted:
                        self.interrupted = True
                        pipe.write('\n')
                        pipe.flush()
                        raise KeyboardInterrupt

                def close(self):
                    lines.close()

            self.stdout = Interrupted()

    monkeypatch.setattr(stages.subprocess, 'Popen', Process)
    with pytest.raises(KeyboardInterrupt):
        stages.basicsr('train', 'any.yml', tmp_path)
    assert (tmp_path / 'results/train_any.log').read_text(encoding='utf-8').split() == ['first', 'saved']
