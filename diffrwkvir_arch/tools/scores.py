"""PSNR and SSIM on the Y channel of images in files, as tables for people and as CSV."""
import csv
from pathlib import Path

import cv2
from basicsr.metrics import calculate_psnr, calculate_ssim

from diffrwkvir_arch.errors import InputError


def read_image(path):
    """BGR uint8 (H, W, 3) of an image file."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f'{path} is missing or not an image')
    return image


def score(image, gt, border):
    """BGR uint8 (H, W, 3) twice -> dict psnr_y (dB), ssim_y: BT.601 Y, `border` pixels cropped on each side."""
    options = dict(crop_border=border, test_y_channel=True)
    return {'psnr_y': float(calculate_psnr(image, gt, **options)),
            'ssim_y': float(calculate_ssim(image, gt, **options))}


def write_csv(rows, path):
    """rows: dicts with the same keys, in the order of the columns."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows({key: f'{value:.4f}' if isinstance(value, float) else value for key, value in row.items()}
                         for row in rows)


def mean_rows(rows, keys):
    """Averages psnr_y and ssim_y over the rows that agree in `keys`; keeps the order of first appearance."""
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return [{**dict(zip(keys, group)), **{name: sum(row[name] for row in members) / len(members)
                                          for name in ('psnr_y', 'ssim_y')}} for group, members in groups.items()]


def markdown_table(rows):
    """Rows of write_csv -> a Markdown table; PSNR with two decimals, SSIM with four."""
    digits = {'psnr_y': 2, 'ssim_y': 4}
    cells = [[f'{value:.{digits.get(key, 3)}f}' if isinstance(value, float) else str(value)
              for key, value in row.items()] for row in rows]
    cells.insert(0, list(rows[0]))
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = ['| ' + ' | '.join(text.ljust(width) for text, width in zip(line, widths)) + ' |' for line in cells]
    lines.insert(1, '|' + '|'.join('-' * (width + 2) for width in widths) + '|')
    return '\n'.join(lines)
