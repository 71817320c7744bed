"""The images that `basicsr restore` is given: which files, what their results are called, which masks are theirs."""
import os
import shlex
from collections import Counter
from pathlib import Path

from diffrwkvir_arch.data.image_file import EXTENSIONS
from diffrwkvir_arch.data.mask_folder import MaskFolder
from diffrwkvir_arch.errors import InputError, counted

from ..comparison.names import as_file_name
from ..preparation.sources import images_of, visible

# What OpenCV reads, and data sets are not made of.
READABLE = (*EXTENSIONS, '.jpe', '.jfif', '.gif', '.avif')
# Among the endings and names of files that are passed over, none of which can be this.
SUBFOLDERS = '/'
VIDEOS = '.mp4', '.mkv', '.mov', '.avi', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv'


def find_images(texts, recursive, output, ending):
    """The images that files and folders name.

    Args:
        texts (list of str): Paths.
        recursive (bool): With the subfolders of folders; results then lie in the same subfolders.
        output (Path): The folder of the results.
        ending (str): Of their names, such as '.png'.

    Returns:
        tuple: dict path of a result without its ending -> path of its image; what was passed over, in a line, or ''.

    Raises:
        InputError: A path does not exist, a folder holds no images or the results, or two images have one name.
    """
    relative, others = {}, Counter()
    for place in (Path(text).expanduser() for text in texts):
        if not place.exists():
            raise InputError(f'{place} does not exist')
        if not place.is_dir():
            refuse_video(place)
            relative.setdefault(Path(os.path.abspath(place)), (place, Path(place.name)))
            continue
        refuse_results_among_images(place, recursive, output)
        for path in images_of(place, recursive, READABLE):
            relative.setdefault(Path(os.path.abspath(path)), (path, path.relative_to(place)))
        others += other_things(place, recursive)
    said = ', '.join(f'{counted(count, "subfolder")} (see --recursive)' if what == SUBFOLDERS else f'{count} {what}'
                     for what, count in sorted(others.items()))
    return named(list(relative.values()), output, ending), said and f'passed over: {said}'


def refuse_video(path):
    if path.suffix.lower() in VIDEOS:
        clip = shlex.quote(str(path))
        raise InputError(f'{path} is a video; restore its frames: mkdir frames && ffmpeg -i {clip} frames/%06d.png && '
                         'basicsr restore frames -o restored && ffmpeg -framerate FPS -i restored/%06d.png '
                         f"-i {clip} -map 0:v -map '1:a?' -pix_fmt yuv420p restored.mp4")


def refuse_results_among_images(folder, recursive, output):
    """The next run would restore them once more."""
    output, place = output.resolve(), folder.resolve()
    if output == place:
        raise InputError(f'-o: {folder} is the folder of the images; give the results a folder of their own')
    if recursive and place in output.parents:
        raise InputError(f'-o: with --recursive the results must not lie in {folder}')


def other_things(folder, recursive):
    """Counter of what a folder holds beside images: endings of files, and subfolders unless these are looked into."""
    found = Counter()
    for _, subfolders, names in visible(folder, recursive):
        found.update(Path(name).suffix.lower() or name for name in names if not name.lower().endswith(READABLE))
        if subfolders and not recursive:
            found[SUBFOLDERS] += len(subfolders)
    return found


def named(images, output, ending):
    """dict name -> path, of a list of (path, path below -o): a for a.jpg, a.jpg where there is an a.png too."""
    stems = Counter(relative.with_suffix('') for _, relative in images)
    found = {}
    for path, relative in images:
        stem = relative.with_suffix('')
        name = str(Path(*map(as_file_name, (stem if stems[stem] == 1 else relative).parts)))
        if name in found:
            raise InputError(f'{found[name]} and {path} would both become {output / name}{ending}; rename one, or give '
                             'each an -o of its own')
        found[name] = path
    return found


def masks_of(folder, images):
    """Name of every image -> its mask (H, W) when called, or None where no folder is given."""
    if folder is None:
        return lambda name: None
    try:
        source = MaskFolder({'name': folder, 'dataroot_mask': folder})
        paths = dict(zip(images, source.pair([path.name for path in images.values()], must_use_all=False)))
    except InputError as error:
        # As of a dataset's options, which nobody has written here.
        said = str(error).replace(f"dataset '{folder}': ", '--masks: ', 1)
        raise InputError(said.replace('dataroot_mask: ', '', 1).replace(' up to filename_tmpl', '', 1)) from None
    return lambda name: source.read_mask(paths[name])
