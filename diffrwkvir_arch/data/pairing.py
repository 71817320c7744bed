"""Which LQ image belongs to which GT image: by file name, by a list of names, or by LMDB key."""
import os

from diffrwkvir_arch.data.image_file import EXTENSIONS
from diffrwkvir_arch.errors import InputError, some


def list_images(folder, option):
    """The names of the images in a folder, sorted; hidden and other files are left out.

    Args:
        folder (str): Is not searched deeper.
        option (str): The option that named it, for error messages.
    """
    if not os.path.isdir(folder):
        raise InputError(f'{option}: {folder} is not a folder of images')
    names = sorted(name for name in os.listdir(folder)
                   if name.lower().endswith(EXTENSIONS) and not name.startswith('.'))
    if not names:
        has_folders = any(item.is_dir() and not item.name.startswith('.') for item in os.scandir(folder))
        hint = '; subfolders are not searched, basicsr prepare --recursive gathers their images' if has_folders else ''
        raise InputError(f'{option}: {folder} holds no images ({", ".join(EXTENSIONS)}){hint}')
    return names


def is_lmdb(root):
    """Whether a path names an LMDB, a folder NAME.lmdb."""
    return root.rstrip('/').endswith('.lmdb')


def list_keys(folder, option):
    """The keys of an LMDB, sorted, from the meta_info.txt that BasicSR's tools write beside it."""
    lines = read_lines(os.path.join(folder, 'meta_info.txt'), option)
    # A line reads `baboon.png (120,125,3) 1`; the key is the name without extension.
    return sorted(os.path.splitext(line.rsplit(' (', 1)[0])[0] for line in lines)


def read_lines(path, option):
    """The lines of a text file that are not blank."""
    try:
        with open(path, encoding='utf-8') as file:
            return [line.strip() for line in file if line.strip()]
    except OSError as error:
        raise InputError(f'{option}: cannot read {path}: {error.strerror}') from None


def listed_names(meta_info_file, option):
    """The file names that a meta_info file lists, one a line, before the first blank."""
    return [line.split(' ')[0] for line in read_lines(meta_info_file, option)]


def pair_names(gt_names, lq_names, template, what):
    """Finds for every GT image the LQ image whose stem is the template filled with the GT's.

    Args:
        gt_names, lq_names (list of str): File names.
        template (str): filename_tmpl, such as '{}x4' for baboon.png and baboonx4.png.
        what (str): Names the dataset in error messages.

    Returns:
        tuple: A list of (LQ name or None, GT name) in the order of gt_names, and the LQ names left over. The same
        extension is preferred; where LQ has the stem once with another extension, that one is taken.
    """
    check_template(template, what)
    by_name, by_stem = set(lq_names), {}
    for name in lq_names:
        by_stem.setdefault(os.path.splitext(name)[0], []).append(name)
    partners, taken = {}, set()
    for gt in gt_names:
        stem, extension = os.path.splitext(os.path.basename(gt))
        # Keys of an LMDB may be in folders, and then are in the same.
        same = gt if template == '{}' and gt in by_name else template.format(stem) + extension
        if same in by_name:
            if same in taken and gt not in partners:
                other = next(name for name, partner in partners.items() if partner == same)
                raise InputError(f'{what}: GT {other} and {gt} both pair with LQ {same}; give them names of their own')
            partners[gt] = same
            taken.add(same)
    for gt in gt_names:
        if gt not in partners:
            others = by_stem.get(template.format(os.path.splitext(os.path.basename(gt))[0]), [])
            if len(others) == 1 and others[0] not in taken:
                partners[gt] = others[0]
                taken.add(others[0])
    return [(partners.get(gt), gt) for gt in gt_names], [name for name in lq_names if name not in taken]


def check_template(template, what):
    """filename_tmpl holds one pair of braces."""
    if not isinstance(template, str) or template.count('{}') != 1 or set('{}') & set(template.replace('{}', '')):
        raise InputError(f"{what}: filename_tmpl must hold {{}} once, such as '{{}}x4', got {template!r}")


def refuse_unpaired(gt_left, lq_left, gt_names, lq_names, template, what):
    """Raises InputError where images have no partner; names the first five of either side, and a template that fits."""
    if not gt_left and not lq_left:
        return
    parts = []
    for side, other, left in (('GT', 'LQ', gt_left), ('LQ', 'GT', lq_left)):
        if left:
            parts.append(f'{side} without {other}: {some(left)}')
    better = fitting_template(gt_names, lq_names)
    if better and better != template:
        parts.append(f"filename_tmpl: '{better}' would pair them")
    else:
        parts.append('names must agree up to filename_tmpl')
    raise InputError(f'{what}: {"; ".join(parts)}')


def fitting_template(gt_names, lq_names):
    """The filename_tmpl that pairs all GT images, found from the first one; None where there is none."""
    gt_stems = [os.path.splitext(os.path.basename(name))[0] for name in gt_names]
    lq_stems = {os.path.splitext(name)[0] for name in lq_names}
    for lq in sorted(lq_stems, key=len):
        if gt_stems[0] in lq:
            template = lq.replace(gt_stems[0], '{}', 1)
            braces = set('{}') & set(template.replace('{}', '', 1))
            if not braces and all(template.format(gt) in lq_stems for gt in gt_stems):
                return template
    return None
