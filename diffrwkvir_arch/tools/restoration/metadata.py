"""What a result has of its image beside the pixels: colour profile, EXIF and resolution."""
from typing import NamedTuple, Optional

from PIL import ExifTags, Image

from diffrwkvir_arch.data.pillow_file import opened

# Of EXIF: what does not depend on how the pixels lie in the file, as sides, turn and thumbnail do.
Base = ExifTags.Base
KEPT = {Base.ImageDescription, Base.Make, Base.Model, Base.Software, Base.DateTime, Base.Artist, Base.HostComputer,
        Base.Rating, Base.RatingPercent, Base.Copyright, Base.XPTitle, Base.XPComment, Base.XPAuthor, Base.XPKeywords,
        Base.XPSubject, ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo}
# Of the part with the details.
SIDES = Base.ExifImageWidth, Base.ExifImageHeight
INCH = 2
# What a colour profile (https://www.color.org/ICC1v42_2006-05.pdf, 7.2) says of its colours, and where.
COLOURS, RGB, GREY = slice(16, 20), b'RGB ', b'GRAY'

# What Pillow raises of formats that it does not know.
UNREADABLE = OSError, ValueError, SyntaxError, EOFError


class Metadata(NamedTuple):
    """profile (bytes): ICC, or empty; dpi (tuple | None): across, down; exif (bytes): of an upright image, or empty."""
    profile: bytes = b''
    dpi: Optional[tuple] = None
    exif: bytes = b''

    def signed(self, software):
        """EXIF that says also the resolution, and what software made the image."""
        exif = Image.Exif()
        exif.load(self.exif)
        exif[Base.Software] = software
        if self.dpi:
            exif.update({Base.XResolution: self.dpi[0], Base.YResolution: self.dpi[1], Base.ResolutionUnit: INCH})
        return exif


def metadata_of(content, is_grey):
    """Metadata for a result of an image file.

    Args:
        content (bytes): The file.
        is_grey (bool): Whether the result is. A profile for other colours, such as CMYK's, is left out.
    """
    try:
        with opened(content) as image:
            profile, dpi, exif = image.info.get('icc_profile') or b'', image.info.get('dpi', (0, 0)), upright(image)
    except UNREADABLE:
        return Metadata()
    return Metadata(profile if profile[COLOURS] == (GREY if is_grey else RGB) else b'',
                    dpi if all(1 <= dots < 1e5 for dots in dpi) else None, exif)


def page_count(content):
    """Of an image file; 1 for a photograph with what phones put behind it, such as its map of highlights."""
    try:
        with opened(content) as image:
            return 1 if image.format in ('JPEG', 'MPO') else getattr(image, 'n_frames', 1)
    except UNREADABLE:
        return 1


def upright(image):
    """EXIF of Pillow's image for one that was turned as it says and has other sides; empty where it cannot be read."""
    try:
        found = image.getexif()
        # Programs that know arrays describe that of the file there.
        kept = KEPT - {Base.ImageDescription} if image.format == 'TIFF' else KEPT
        for tag in set(found) - kept:
            del found[tag]
        details = found.get_ifd(ExifTags.IFD.Exif)
        for tag in SIDES:
            details.pop(tag, None)
        found.bigtiff = False    # of a TIFF with offsets of 64 bits, which nothing else has
        content = found.tobytes() if found else b''
        Metadata(exif=content).signed('').tobytes()    # what cannot be written is told now, not by a result
        return content
    except Exception:
        # Cameras write what no reader foresees.
        return b''
