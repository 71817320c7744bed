"""Small images, masks and options for the tests of inpainting."""
import cv2
import numpy as np

BOX = {'preset': 'box', 'seed': 1}


def write_images(folder, sizes=((32, 40), (36, 44), (33, 41))):
    """Noise as 8-bit PNGs; -> the folder's path."""
    folder.mkdir(parents=True)
    for number, size in enumerate(sizes):
        noise = np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)
        cv2.imwrite(str(folder / f'{number:02d}.png'), noise)
    return str(folder)


def write_mask(folder, name, mask):
    """A mask, (H, W) uint8, as folder/name."""
    folder.mkdir(exist_ok=True)
    cv2.imwrite(str(folder / name), mask)


def hole(height, width, inside=255, outside=0):
    """A mask with one box."""
    mask = np.full((height, width), outside, np.uint8)
    mask[8:20, 10:30] = inside
    return mask
