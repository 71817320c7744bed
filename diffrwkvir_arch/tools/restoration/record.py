"""What a restored image was made from, said in its own file: a later run knows by it what is done already."""
import json

import numpy as np
from PIL.PngImagePlugin import PngImageFile

from diffrwkvir_arch.errors import InputError

from ..comparison.image_sets import digest
from . import png

# Of the PNG's text.
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


def chunk_of(record):
    """The record as a chunk of a PNG."""
    return png.text(KEYWORD, json.dumps(record))


def read_record(path):
    """The record in a PNG, or None where there is none, as in files of other programs."""
    try:
        # Not by Image.open, which refuses large ones.
        with PngImageFile(path) as image:
            return dict(json.loads(image.info[KEYWORD]))
    except (OSError, SyntaxError, KeyError, TypeError, ValueError):
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
        raise InputError(f'-o: {output} holds {len(others)} of these results already, made otherwise, such as {path} '
                         f'({what}); give another -o, or --force, which replaces them')


def difference(there, here):
    """How two records differ: 'another image; scale 2, not 4'."""
    if there is None:
        return 'it does not say what it was made from'
    said = {key: [records.get(key) if records.get(key) is not None else 'default' for records in (there, here)]
            for key in here if there.get(key) != here[key]}
    return '; '.join(HASHED.get(key) or '{} {}, not {}'.format(key, *values) for key, values in said.items())
