"""What a result has of its image beside the pixels: colour profile, EXIF and resolution."""
from PIL import Image

from diffrwkvir_arch.data.image_file import leniently, opened

from . import png

# Of EXIF: how to turn the image, which was done, and its sides; sides again, in the part with the details.
DONE, DETAILS, SIDES = (0x0112, 0x0100, 0x0101), 0x8769, (0xA002, 0xA003)
# What a colour profile (https://www.color.org/ICC1v42_2006-05.pdf, 7.2) says of its colours, and where.
COLOURS, RGB, GREY = slice(16, 20), b'RGB ', b'GRAY'

# What Pillow raises of formats that it does not know.
UNREADABLE = OSError, ValueError, SyntaxError, EOFError


def chunks_like(content, is_grey):
    """Chunks of a PNG for a result of an image file.

    Args:
        content (bytes): The file.
        is_grey (bool): Whether the result is. A profile for other colours, such as CMYK's, is left out.
    """
    try:
        with opened(content) as image:
            said = image.info
    except UNREADABLE:
        return []
    chunks = []
    profile = said.get('icc_profile') or b''
    if profile[COLOURS] == (GREY if is_grey else RGB):
        chunks.append(png.colour_profile(profile))
    dpi = said.get('dpi', (0, 0))
    if all(1 <= dots < 1e5 for dots in dpi):
        chunks.append(png.resolution(*dpi))
    exif = upright(said.get('exif', b''))
    if exif:
        chunks.append(png.exif(exif))
    return chunks


def page_count(content):
    """Of an image file; 1 for a photograph with what phones put behind it, such as its map of highlights."""
    try:
        with opened(content) as image:
            return 1 if image.format in ('JPEG', 'MPO') else getattr(image, 'n_frames', 1)
    except UNREADABLE:
        return 1


def upright(exif):
    """EXIF (bytes) for an image that was turned as it says and has other sides now; empty where it cannot be read."""
    try:
        found = Image.Exif()
        with leniently():
            found.load(exif)
        details = found.get_ifd(DETAILS)
        for tags, gone in ((found, DONE), (details, SIDES)):
            for tag in gone:
                tags.pop(tag, None)
        return found.tobytes() if found else b''
    except Exception:
        # Cameras write what no reader foresees.
        return b''
