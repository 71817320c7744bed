"""Methods of which there are only results: folders of restored images, as authors publish them, as others' code and
`basicsr test` write them."""
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from diffrwkvir_arch.data.image_file import EXTENSIONS, decode_image
from diffrwkvir_arch.data.pairing import fitting_template, list_images
from diffrwkvir_arch.errors import InputError, some

from .classical import CLASSICAL
from .image_sets import digest
from .methods import short_name
from .names import split_label
from .network import finished


@dataclass
class ImageFolder:
    """Stands where a Method does; folder: of images, or of folders of them that are called as the sets are."""
    label: str
    folder: Path
    has_network = False

    def identity(self):
        """What a result depends on, as JSON takes it: all the images."""
        return [[path.relative_to(self.folder).as_posix(), digest(np.fromfile(path, np.uint8))]
                for path in images_in(self.folder)]

    def load(self, scale, device):
        return RestoredImages(self.folder, scale, device)


class RestoredImages:
    """An ImageFolder at work, in the place of a Network.

    Args:
        folder (Path): Of an ImageFolder.
        scale (int): Output side over LQ side.
        device (torch.device): Where images are put.
    """

    reads_gt = needs_mask = False

    def __init__(self, folder, scale, device):
        self.folder, self.scale, self.device = folder, scale, device
        self.note = f'images of {folder}, restored elsewhere'
        self.files = {}

    def image(self, image_set, sample):
        """The image of a Sample of an ImageSet; (1, 3, scale*h, scale*w) in [0, 1].

        Raises:
            InputError: There is none for every image of the set, or it cannot be read, or has another size.
        """
        if image_set.name not in self.files:
            self.files[image_set.name] = self.files_of(image_set)
        path = self.files[image_set.name][sample.name]
        image = decode_image(path.read_bytes(), str(path))
        mask = sample.mask_batch(self.device)
        lq = sample.lq_batch(self.device) if sample.gt is None or mask is not None else None
        height, width = sample.gt.shape[:2] if lq is None else (self.scale * side for side in lq.shape[-2:])
        if image.shape[:2] != (height, width):
            raise InputError(f'{path} is {image.shape[1]}x{image.shape[0]}, not {width}x{height}')
        return finished(torch.from_numpy(image.transpose(2, 0, 1))[None].to(self.device), lq, mask)

    def files_of(self, image_set):
        """Name of an image of the set -> path here, whose name may have something before or after it."""
        folder = self.folder / image_set.name
        folder = folder if folder.is_dir() else self.folder
        files = list_images(str(folder), '--methods')
        template = fitting_template([f'{name}.png' for name in image_set.names], files) or '{}'
        by_stem = {Path(file).stem: folder / file for file in files}
        found = {name: by_stem.get(template.format(name)) for name in image_set.names}
        missing = [name for name, path in found.items() if path is None]
        if missing:
            raise InputError(f'{folder} has none for {some(missing)} of {image_set.name}, nor have all of that set a '
                             'name of one pattern there')
        return found

    def count(self, lq):
        """Its cost as Network.count gives it; it is not known."""
        return {'parameters': None, 'flops': None, 'uncounted': []}


def parse_folder(text):
    """[NAME=]FOLDER -> ImageFolder; None where it is no folder, or a name of CLASSICAL (./lq is the folder lq).

    Raises:
        InputError: The folder holds no images.
    """
    label, what = split_label(text, '--methods')
    folder = Path(what).expanduser()
    if what in CLASSICAL or not folder.is_dir():
        return None
    if not images_in(folder):
        weights = next(map(str, sorted(folder.glob('*.pth'))), None)
        raise InputError(f'--methods {text}: a folder of restored images, or of such folders called as the sets are, '
                         f'is needed, and it holds none{f"; did you mean {weights}?" if weights else ""}')
    # BasicSR's results/NAME/visualization/SET/baby_NAME.png
    named = folder.absolute()
    return ImageFolder(label or short_name((named.parent if named.name == 'visualization' else named).name), folder)


def images_in(folder):
    """The image files in a folder and in its subfolders, no deeper, sorted."""
    return sorted(path for pattern in ('*', '*/*') for path in folder.glob(pattern)
                  if path.suffix.lower() in EXTENSIONS and path.name[0] != '.' and path.is_file())
