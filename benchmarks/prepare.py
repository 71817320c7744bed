"""How fast `basicsr prepare` is: MATLAB's bicubic beside BasicSR's imresize, and where the time of LMDBs goes.

    python benchmarks/prepare.py

One picture, made of scikit-image's photographs, in this process. CPU time, the least of several runs, so that a busy
machine disturbs little; the copy into an LMDB is wall time, because it waits for the disk.
"""
import argparse
import contextlib
import io
import tempfile
import time
from pathlib import Path

import cv2
import diffrwkvir_arch  # noqa: F401
import lmdb
import numpy as np
import torch
from basicsr.utils import matlab_functions
from basicsr.utils.lmdb_util import make_lmdb_from_imgs
from diffrwkvir_arch.bicubic import imresize
from diffrwkvir_arch.tools.demo import HELD_OUT, TRAIN, photograph
from diffrwkvir_arch.tools.preparation.folders import Target
from diffrwkvir_arch.tools.preparation.lmdbs import key_of_name, make_lmdb
from diffrwkvir_arch.tools.preparation.pieces import Recipe, read_image, write_pieces

SCALES = (2, 3, 4, 8)


def picture(height, width):
    """A mosaic of photographs, BGR uint8 (height, width, 3)."""
    tiles = [cv2.resize(photograph(name), (width // 4, height // 3)) for name in (*TRAIN, *HELD_OUT, 'motorcycle')]
    return np.vstack([np.hstack(tiles[row:row + 4]) for row in range(0, 12, 4)])


def least(task, repeats, clock=time.process_time):
    """The least time of a call, in ms; once before it for what is compiled or allocated first."""
    times = []
    task()
    for _ in range(repeats):
        start = clock()
        task()
        times.append((clock() - start) * 1e3)
    return min(times)


def basicsr_bicubic(image, scale):
    """BasicSR's imresize, uint8 to uint8."""
    resized = matlab_functions.imresize(image.astype(np.float32) / 255, scale)
    return (resized.clip(0, 1) * 255).round().astype(np.uint8)


def report_bicubic(image, repeats):
    """Prints ms per megapixel of the HR image."""
    megapixels = image.shape[0] * image.shape[1] / 1e6
    print(f'8-bit LR of {image.shape[1]}x{image.shape[0]}, ms/MP of one core:\n\n| scale | BasicSR | ours | ratio |\n'
          '| --- | --- | --- | --- |')
    for scale in SCALES:
        slow = least(lambda: basicsr_bicubic(image, 1 / scale), repeats) / megapixels
        fast = least(lambda: imresize(image, 1 / scale), 3 * repeats) / megapixels
        print(f'| 1/{scale} | {slow:.1f} | {fast:.2f} | {slow / fast:.0f} |', flush=True)


def report_image(image, repeats, folder):
    """Prints what the steps from an image file to sub-images and x4 LRs cost; leaves GT and LR in `folder`."""
    path = folder / 'picture.png'
    cv2.imwrite(str(path), image)
    recipe = Recipe(shrink=1, mod=12, crop=480, step=240, thresh=0, im2double=False)
    targets = [(str(folder / name), scale) for name, scale in (('GT', 1), ('LR', 4))]
    for name, _ in targets:
        Path(name).mkdir()
    windows = recipe.windows(*image.shape[:2])
    steps = {
        'decode the image': lambda: read_image(path),
        'shrink by 4': lambda: imresize(image, 1 / 4),
        f'all, with {2 * len(windows)} PNGs': lambda: write_pieces((str(path), 'picture', targets), recipe),
    }
    spent = {name: least(step, repeats) for name, step in steps.items()}
    spent['encode and write the PNGs (the rest)'] = 2 * list(spent.values())[-1] - sum(spent.values())
    print('\nSub-images and their LRs, ms an image of one core:\n\n| step | ms |\n| --- | --- |')
    print('\n'.join(f'| {name} | {ms:.0f} |' for name, ms in spent.items()))


def report_lmdb(folder, repeats):
    """Prints what an LMDB of folder/GT costs, by step, ours and BasicSR's."""
    gt = folder / 'GT'
    names = sorted(path.name for path in gt.iterdir())
    contents = {name: (gt / name).read_bytes() for name in names}
    images = {name: cv2.imdecode(np.frombuffer(content, np.uint8), -1) for name, content in contents.items()}
    level = [cv2.IMWRITE_PNG_COMPRESSION, 1]

    def put():
        with tempfile.TemporaryDirectory(dir=folder) as place, lmdb.open(place, map_size=2**30) as environment:
            with environment.begin(write=True) as transaction:
                for name, content in contents.items():
                    transaction.put(key_of_name(name), content)

    def ours():
        with tempfile.TemporaryDirectory(dir=folder) as place:
            make_lmdb(gt, Target(Path(place) / 'GT.lmdb', {}), '')

    def basicsr():
        with tempfile.TemporaryDirectory(dir=folder) as place, contextlib.redirect_stdout(io.StringIO()):
            make_lmdb_from_imgs(str(gt), f'{place}/GT.lmdb', names, [Path(name).stem for name in names])

    steps = {
        'read the files': lambda: [(gt / name).read_bytes() for name in names],
        'decode them': lambda: [cv2.imdecode(np.frombuffer(content, np.uint8), -1) for content in contents.values()],
        'encode them': lambda: [cv2.imencode('.png', image, level) for image in images.values()],
        'store and sync': put,
        'BasicSR, all of these': basicsr,
        'ours, reads and stores': ours,
    }
    spent = {name: least(step, repeats, time.perf_counter) for name, step in steps.items()}
    size = sum(map(len, contents.values())) / 1e6
    print(f'\nLMDB of {len(names)} sub-images, {size:.0f} MB, wall ms:\n\n| step | ms |\n| --- | --- |')
    print('\n'.join(f'| {name} | {ms:.0f} |' for name, ms in spent.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--size', nargs=2, type=int, default=[1392, 2040], metavar=('H', 'W'),
                        help='multiples of 24 (default: a picture of DIV2K)')
    parser.add_argument('--repeats', type=int, default=3, help='(default: %(default)s)')
    args = parser.parse_args()
    torch.set_num_threads(1)
    image = picture(*args.size)
    report_bicubic(image, args.repeats)
    with tempfile.TemporaryDirectory() as folder:
        report_image(image, args.repeats, Path(folder))
        report_lmdb(Path(folder), args.repeats)


if __name__ == '__main__':
    main()
