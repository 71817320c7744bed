"""Contact sheets: what each method makes of the crops on which methods disagree most, with maps of their errors."""
import cv2
import numpy as np
from basicsr.utils import tensor2img

from diffrwkvir_arch.metrics.tables import label

from ..pictures import LABEL, MARGIN, fitted, hardest_crop, panel, write
from .classical import CLASSICAL
from .contest import read_restored, write_image
from .scoring import first_psnr

CROP = 64  # pixels of the restored image
ZOOM = 3
WIDTH = 2500  # of a sheet, about
NUMBERS = 80  # pixels of '-12.34 dB' below a crop


def write_sheet(results, methods, image_set, settings, rows_wanted):
    """Writes SET.png: a row for each of the images with the most contested crops.

    Args:
        results (Results), image_set (ImageSet), settings (Settings).
        methods (list of str): In the order of the columns; those that failed on this set are left out.
        rows_wanted (int): At most so many rows.

    Returns:
        list of str: The names of the images drawn; none where no image is there of all methods.
    """
    sheet = settings.out / f'{image_set.name}.png'
    sheet.unlink(missing_ok=True)    # of an earlier comparison
    found = {method: {row['image']: row for row in results.of(method, image_set.name)} for method in methods}
    found = {method: rows for method, rows in found.items() if rows}
    contested = []
    for index, name in enumerate(image_set.names if found else []):
        images = restored_by_all(found, image_set.name, name, settings)
        if images:
            spread, top, left, size = contested_crop(images, CROP)
            contested.append((spread, index, top, left, size))
    # The most contested first; images that tie in their own order.
    chosen = sorted(contested, key=lambda entry: (-entry[0], entry[1]))[:rows_wanted]
    drawn = []
    for _, index, top, left, size in chosen:
        sample = image_set.sample(index)
        images = restored_by_all(found, image_set.name, sample.name, settings)
        scores = {method: found[method][sample.name]['scores'] for method in images}
        quality = first_psnr(settings.metrics, scores.values())
        drawn.append(sheet_row(sample, images, scores, quality, (top, left, size)))
    if drawn:
        gap = ((0, MARGIN), (0, 0), (0, 0))
        write_image(sheet, np.vstack([np.pad(row, gap, constant_values=255) for row in padded(drawn)]))
    return [image_set.names[index] for _, index, *_ in chosen]


def restored_by_all(found, set_name, name, settings):
    """Method -> BGR uint8 of one image; None where one of them is no longer there."""
    images = {}
    for method, rows in found.items():
        image = read_restored(settings.restored_path(set_name, method, name), rows[name]['restored'])
        if image is None:
            return None
        images[method] = image
    return images


def contested_crop(images, size):
    """Where methods differ most: the window with the largest mean range over methods.

    Args:
        images (dict[str, ndarray]): Method -> BGR uint8 (H, W, 3). Those of CLASSICAL, by name, are left out where two
            others are left: they differ from all networks wherever there is detail, and from each other is what these
            are compared for.
        size (int): Side of the window; smaller for smaller images.

    Returns:
        tuple: Mean range in grey levels, top, left, side of the window.
    """
    others = [image for method, image in images.items() if method not in CLASSICAL]
    stack = np.stack(others if len(others) > 1 else list(images.values()))
    low, high = stack.min(0), stack.max(0)
    size = min(size, *low.shape[:2])
    top, left = hardest_crop(high, low, size)
    window = (slice(top, top + size), slice(left, left + size))
    return float((high[window].astype(int) - low[window]).mean()), top, left, size


def references(sample, shape):
    """What methods' crops are shown beside: name -> BGR uint8 (H, W, 3) of the given shape, the last one the GT.

    Where there are holes the image with its holes grey comes first; without a GT there is the LQ alone.
    """
    found = {}
    if sample.mask is not None or sample.gt is None:
        name = 'LQ (nearest)' if sample.mask is None else 'holes'
        lq = tensor2img(sample.make_lq())
        found[name] = cv2.resize(lq, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST)
    return found if sample.gt is None else {**found, 'GT': sample.gt}


def sheet_row(sample, images, scores, quality, crop):
    """One image: as a whole with a frame, the crops of `references`, each method's crop beside the map of its error.

    Without a GT there are no maps.

    Args:
        sample (Sample).
        images (dict[str, ndarray]): Method -> BGR uint8 (H, W, 3).
        scores (dict[str, dict]): Method -> its scores.
        quality (str | None): The PSNR among them that is printed below.
        crop (tuple of int): Top, left and side of the crop.
    """
    top, left, size = crop
    window = (slice(top, top + size), slice(left, left + size))
    shown = references(sample, next(iter(images.values())).shape)
    whole, reference = next(iter(shown.values())).copy(), [*shown.values()][-1]
    cv2.rectangle(whole, (left, top), (left + size - 1, top + size - 1), (0, 0, 255), 2)
    panels = [panel(whole, '', CROP * ZOOM)]
    panels += [panel(image[window], name, CROP * ZOOM) for name, image in shown.items()]
    errors = {method: np.abs(image[window].astype(int) - reference[window]).mean(2) for method, image in images.items()}
    worst = max(1., *(error.max() for error in errors.values()))
    for method, image in images.items():
        picture = image[window]
        if sample.gt is not None:
            heat = cv2.applyColorMap((errors[method] / worst * 255).round().astype(np.uint8), cv2.COLORMAP_INFERNO)
            picture = np.hstack([picture, heat])
        value = f'{scores[method][quality]:.2f} dB' if quality else ''
        below = fitted(method, picture.shape[1] * CROP * ZOOM // picture.shape[0] - NUMBERS)
        panels.append(panel(picture, f'{below} {value}', CROP * ZOOM))
    row = np.vstack(padded(lines_of(panels)))
    title = f'{sample.name}: {size} x {size} pixels at ({left}, {top})'
    if quality:
        title += f'; {label(quality)} in dB'
    if sample.gt is not None:
        title += f'; error maps from 0 (black) to {worst:.0f} of 255 (light)'
    strip = np.full((LABEL, row.shape[1], 3), 255, np.uint8)
    write(title, strip)
    return np.vstack([strip, row])


def lines_of(panels):
    """The panels side by side, MARGIN between them; in several lines where one would be wider than WIDTH."""
    lines = [panels[0]]
    for item in panels[1:]:
        if lines[-1].shape[1] + MARGIN + item.shape[1] > WIDTH:
            lines.append(item)
        else:
            lines[-1] = np.hstack([np.pad(lines[-1], ((0, 0), (0, MARGIN), (0, 0)), constant_values=255), item])
    return lines


def padded(rows):
    """Pictures (h, w, 3), all as wide as the widest, white where they had ended."""
    width = max(row.shape[1] for row in rows)
    return [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
