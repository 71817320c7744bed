"""What a PNG says beside its pixels, in chunks (https://www.w3.org/TR/png-3/#11Ancillary-chunks)."""
import zlib


def chunk(kind, content):
    """A chunk: its length, kind (four letters), content and checksum."""
    return len(content).to_bytes(4, 'big') + kind + content + zlib.crc32(kind + content).to_bytes(4, 'big')


def text(keyword, value):
    """A text in ASCII."""
    return chunk(b'tEXt', f'{keyword}\0{value}'.encode('ascii'))


def colour_profile(profile):
    """An ICC profile (bytes)."""
    return chunk(b'iCCP', b'profile\0\0' + zlib.compress(profile))


def resolution(across, down):
    """Dots per inch."""
    sides = (round(dots / 0.0254).to_bytes(4, 'big') for dots in (across, down))
    return chunk(b'pHYs', b''.join(sides) + b'\1')    # per metre


def exif(content):
    """EXIF, as JPEGs have it."""
    return chunk(b'eXIf', content.removeprefix(b'Exif\0\0'))
