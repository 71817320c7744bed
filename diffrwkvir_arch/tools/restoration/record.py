"""What a restored image was made from, said in its own file: a later run knows by it what is done already."""
import json

import numpy as np
from PIL import ExifTags, Image

from diffrwkvir_arch.data.pillow_file import leniently
from diffrwkvir_arch.errors import InputError

from ..comparison.image_sets import digest

# Of a PNG's text; elsewhere EXIF's software begins so.
KEYWORD = 'basicsr restore'
# Entries that are hashes, by what they are hashes of.
HASHED = {'image': 'another image', 'mask': 'another mask', 'method': 'another method'}


def record_of(content, mask, settings):
    """What a result depends on.

    Args:
        content (bytes): The image file.
        mask (ndarray | None): (H, W), of its hole.
        settings (dict): Of the command: plain values, method as a hash.
    """
    return {'image': digest(np.frombuffer(content, np.uint8)), 'mask': None if mask is None else digest(mask),
            **settings}


def read_record(path):
    """The record in a result, or None where there is none, as in files of other programs."""
    try:
        with leniently(), Image.open(path) as image:
            said = image.info.get(KEYWORD) or str(image.getexif().get(ExifTags.Base.Software)).removeprefix(KEYWORD)
        return {'outscale': None, **json.loads(said)}    # which older records do not say
    except Exception:
        # What others have written may be anything.
        return None


def refuse_others(found, output):
    """Raises InputError where what is there already was made otherwise, for it may be what somebody wants to keep.

    Args:
        found (dict): Path of a result -> its record and that of the command, for all that are there.
        output (Path): Their folder.
    """
    others = {path: difference(*records) for path, records in found.items() if records[0] != records[1]}
    if others:
        path, what = next(iter(others.items()))
        raise InputError(f'-o: {output} holds {len(others)} of these results already, made differently, such as {path} '
                         f'({what}); give another -o, or --force, which replaces them')


def difference(there, here):
    """How two records differ: 'another image; scale 2, not 4'."""
    if there is None:
        return 'it does not say what it was made from'
    said = {key: [records.get(key) if records.get(key) is not None else 'default' for records in (there, here)]
            for key in here if there.get(key) != here[key]}
    return '; '.join(HASHED.get(key) or '{} {}, not {}'.format(key, *values) for key, values in said.items())
