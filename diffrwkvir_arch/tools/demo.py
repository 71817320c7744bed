"""`basicsr demo`: writes pairs and LMDBs, trains and tests both stages, and draws what came of it."""
import time
from pathlib import Path

import cv2
from skimage import data

from diffrwkvir_arch.bicubic import imresize_once_rounded
from diffrwkvir_arch.errors import InputError

from .arguments.demo import argument_parser
from .pairs import write_lmdb, write_pairs
from .pictures import side_by_side
from .preparation.pieces import write_png
from .scores import markdown_table, mean_rows, read_image, score, write_csv
from .stages import basicsr

SCALE = 4
# In the folder that the demo makes anew each time.
MARK = '.made_by_basicsr_demo'
# All of them lie inside scikit-image's wheel; the docstrings of skimage.data name their sources and licences.
TRAIN = ('coffee', 'rocket', 'hubble_deep_field', 'camera', 'brick', 'grass', 'gravel', 'coins', 'moon')
HELD_OUT = ('astronaut', 'chelsea')


def photograph(name):
    """BGR uint8 (H, W, 3) of one of scikit-image's photographs; a grey one gets three equal channels."""
    image = data.stereo_motorcycle()[0] if name == 'motorcycle' else getattr(data, name)()
    return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR if image.ndim == 2 else cv2.COLOR_RGB2BGR)


def prepare(root):
    """Pairs of sub-images and their LMDBs for training, whole images for testing.

    Raises:
        InputError: There is a folder of that name that an earlier demo did not leave.
    """
    if root.exists() and not (root / MARK).exists() and any(root.iterdir()):
        raise InputError(f'{root} holds files that are not of this demo, and would be replaced; move it away, or run '
                         'the demo in another folder')
    root.mkdir(parents=True, exist_ok=True)
    (root / MARK).touch()
    write_pairs({name: photograph(name) for name in (*TRAIN, 'motorcycle')}, root / 'train', SCALE, crop=(192, 144))
    for kind in ('GT', 'LQ'):
        write_lmdb(root / 'train' / kind)
    write_pairs({name: photograph(name) for name in HELD_OUT}, root / 'test', SCALE)


def train_and_test(root, iterations):
    """Both stages through BasicSR's own pipelines; -> method -> folder of restored images."""
    restored = {}
    for stage in ('S1', 'S2'):
        force = [f'train:total_iter={iterations}', f'train:scheduler:periods=[{iterations}]']
        basicsr('train', f'train_DiffRWKVIR-tiny_{stage}_demo.yml', root, force, iterations,
                title=f'stage {stage[1]}: training')
        test_name = f'test_DiffRWKVIR-tiny_{stage}_demo'
        basicsr('test', f'{test_name}.yml', root, title=f'stage {stage[1]}: testing')
        restored[f'stage{stage[1]}'] = (root / 'results' / test_name / 'visualization' / 'held_out', test_name)
    return restored


def evaluate(test_set, restored, out):
    """Scores bicubic and both stages on every held-out image, and draws them; -> rows of metrics.csv."""
    rows = []
    for name in HELD_OUT:
        gt, lq = read_image(test_set / 'GT' / f'{name}.png'), read_image(test_set / 'LQ' / f'{name}.png')
        images = {'bicubic': imresize_once_rounded(lq, SCALE)}
        images |= {method: read_image(folder / f'{name}_{suffix}.png')
                   for method, (folder, suffix) in restored.items()}
        scores = {method: score(image, gt, SCALE) for method, image in images.items()}
        rows += [{'image': name, 'method': method, **values} for method, values in scores.items()]
        panels = {'LQ (nearest)': lq}
        for method, label in (('bicubic', 'bicubic'), ('stage2', 'DiffRWKVIR-tiny')):
            panels[f'{label} {scores[method]["psnr_y"]:.2f} dB'] = images[method]
        write_png(out / f'{name}_x{SCALE}.png', side_by_side(gt, panels, SCALE))
    return rows


def main(argv=None):
    args = argument_parser().parse_args(argv)
    if args.iterations < 10:
        raise InputError(f'--iterations must be at least 10, got {args.iterations}')
    root, start = Path.cwd(), time.time()
    out = root / 'results' / 'demo'
    out.mkdir(parents=True, exist_ok=True)
    prepare(root / 'datasets' / 'demo')
    restored = train_and_test(root, args.iterations)
    rows = evaluate(root / 'datasets' / 'demo' / 'test', restored, out)
    write_csv(rows, out / 'metrics.csv')
    print(f'\nx{SCALE} on held-out photographs, Y channel, {SCALE} pixels of border left out. Stage 1 reads its prior '
          'from LQ and GT,\nwhich no method may; stage 2 goes on from its restorer and sees the LQ alone.\n')
    print(markdown_table(rows + mean_rows([{**row, 'image': 'mean'} for row in rows], ('image', 'method'))))
    print(f'\n{time.time() - start:.0f} s. Table: {out / "metrics.csv"}; pictures: {out}/*.png')
