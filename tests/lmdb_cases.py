"""LMDBs of small folders."""
from basicsr.utils.lmdb_util import make_lmdb_from_imgs


def make_lmdb(folder, names=None):
    """The folder's images as folder.lmdb."""
    paths = sorted(path.name for path in folder.iterdir())
    target = f'{folder}.lmdb'
    make_lmdb_from_imgs(str(folder), target, paths, names or [path.rpartition('.')[0] for path in paths])
    return target
