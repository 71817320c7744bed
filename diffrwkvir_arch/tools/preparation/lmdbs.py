"""A folder of PNGs to an LMDB and lists as BasicSR reads them: docs/DatasetPreparation.md, "LMDB Description".

BasicSR's make_lmdb_from_imgs decodes every image and encodes it again; these PNGs are stored as they are.
"""
import os
import struct
from pathlib import Path

import lmdb
from tqdm import tqdm

from diffrwkvir_arch.errors import InputError

from .pieces import COMPRESSION, write_whole

# Bytes between two commits, which is what an interrupt can cost.
BATCH = 2**28
PAGE = 4096
# Of a PNG's colour types 0 and 2; prepared images have no others.
CHANNELS = {0: 1, 2: 3}


def make_lmdb(folder, target, digest):
    """FOLDER of PNGs -> FOLDER.lmdb: data.mdb with the files by their stems, lock.mdb, meta_info.txt.

    Args:
        folder (Path): Made by make_folders.
        target (Target): Is published when it is complete.
        digest (str): digest_of the sources.
    """
    unfinished = target.unfinished
    unfinished.mkdir(parents=True, exist_ok=True)
    # In the order of keys they are appended, and an interrupted copy holds the first of them.
    names = sorted(png_names(folder), key=key_of_name)
    sizes = [(folder / name).stat().st_size for name in names]
    # A value takes whole pages behind a header; the tree itself needs far less than a page for each.
    room = sum((size // PAGE + 2) * PAGE for size in sizes) + 2**20
    try:
        with lmdb.open(str(unfinished), map_size=room) as environment:
            start = environment.stat()['entries']
            bar = tqdm(total=sum(sizes), initial=sum(sizes[:start]), desc=target.path.name, unit='B', unit_scale=True)
            with bar:
                while start < len(names):
                    start = copy_batch(environment, folder, names, start, bar)
    except lmdb.Error as error:    # such as a full disk
        raise InputError(f'{target.path}: {error}; the same command then continues') from None
    write_lines(unfinished / 'meta_info.txt', [f'{line} {COMPRESSION}' for line in describe(folder)])
    target.publish(digest)


def copy_batch(environment, folder, names, start, bar):
    """Stores files from index `start` on until BATCH bytes are reached; -> the next index."""
    stored = 0
    with environment.begin(write=True) as transaction:
        while start < len(names) and stored < BATCH:
            content = (folder / names[start]).read_bytes()
            transaction.put(key_of_name(names[start]), content, append=True)
            bar.update(len(content))
            stored += len(content)
            start += 1
    return start


def key_of_name(name):
    """The LMDB key of a file: its stem."""
    return os.path.splitext(name)[0].encode()


def png_names(folder):
    """The names of a folder's PNGs, sorted; hidden ones are left out."""
    return sorted(name for name in os.listdir(folder) if name.endswith('.png') and not name.startswith('.'))


def describe(folder):
    """The lines of a meta_info file, such as '0001_s001.png (480,480,3)', sorted by name."""
    return [f'{name} ({",".join(map(str, png_shape(folder / name)))})' for name in png_names(folder)]


def png_shape(path):
    """(height, width, channels) from the header of a PNG."""
    with Path(path).open('rb') as file:
        width, height, _, colour = struct.unpack('>IIBB', file.read(26)[16:])
    return height, width, CHANNELS[colour]


def write_lines(path, lines):
    """Writes a text file that is there whole or not at all."""
    write_whole(path, [f'{line}\n'.encode() for line in lines])
