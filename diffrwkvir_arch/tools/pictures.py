"""Side-by-side pictures: the whole GT with a frame, and what each method makes of the framed crop."""
import cv2
import numpy as np

MARGIN, LABEL = 8, 26
ZOOM = 4    # of crops in side_by_side
FONT = cv2.FONT_HERSHEY_SIMPLEX, 0.5    # and its scale


def hardest_crop(gt, image, size):
    """(top, left) of the size x size window in which `image` differs most from the GT (both BGR uint8)."""
    error = np.abs(gt.astype(np.float32) - image.astype(np.float32)).mean(2)
    means = cv2.boxFilter(error, -1, (size, size), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    means = means[:gt.shape[0] - size + 1, :gt.shape[1] - size + 1]
    return tuple(int(i) for i in np.unravel_index(means.argmax(), means.shape))


def fitted(text, width):
    """The text, its middle left out where it is wider than so many pixels as `write` draws it."""
    def is_wide(text):
        return cv2.getTextSize(text, *FONT, 1)[0][0] > width

    kept = len(text)
    shorter = text
    while kept and is_wide(shorter):
        kept -= 1
        shorter = f'{text[:(kept + 1) // 2]}...{text[len(text) - kept // 2:]}'
    return shorter


def write(text, image):
    """Writes a line into the lowest LABEL rows of an image, which it changes."""
    cv2.putText(image, text, (2, len(image) - 8), *FONT, (0, 0, 0), 1, cv2.LINE_AA)


def panel(image, text, height):
    """`image` enlarged by nearest neighbour to `height`, with `text` below it."""
    width = round(image.shape[1] * height / image.shape[0])
    mode = cv2.INTER_NEAREST if height > image.shape[0] else cv2.INTER_AREA
    out = np.full((height + LABEL, width, 3), 255, np.uint8)
    out[:height] = cv2.resize(image, (width, height), interpolation=mode)
    write(text, out)
    return out


def side_by_side(gt, methods, scale, size=64):
    """One picture of the GT and of every method's crop.

    Args:
        gt (ndarray): BGR uint8 (H, W, 3).
        methods (dict[str, ndarray]): Label -> image of the GT's size, or of 1/scale of it (an LQ, shown by nearest
            neighbour). The crop is where the second entry differs most from the GT.
        scale (int): GT side over LQ side.
        size (int): Side of the crop in GT pixels.
    """
    size = min(size, *(side // scale * scale for side in gt.shape[:2]))
    top, left = (offset // scale * scale for offset in hardest_crop(gt, list(methods.values())[1], size))

    def crop(image):
        factor = 1 if image.shape == gt.shape else scale
        window = image[top // factor:(top + size) // factor, left // factor:(left + size) // factor]
        return cv2.resize(window, (size, size), interpolation=cv2.INTER_NEAREST)

    framed = gt.copy()
    cv2.rectangle(framed, (left, top), (left + size, top + size), (0, 0, 255), 2)
    panels = [panel(framed, 'GT', size * ZOOM)]
    panels += [panel(crop(image), label, size * ZOOM) for label, image in {**methods, 'GT': gt}.items()]
    gap = np.full((panels[0].shape[0], MARGIN, 3), 255, np.uint8)
    return np.hstack([part for item in panels for part in (item, gap)][:-1])
