"""What a PNG says beside its pixels, in chunks (https://www.w3.org/TR/png-3/#11Ancillary-chunks)."""
import zlib


def chunk(kind, content):
    """A chunk: its length, kind (four letters), content and checksum."""
    return len(content).to_bytes(4, 'big') + kind + content + zlib.crc32(kind + content).to_bytes(4, 'big')


def text(keyword, value):
    """A text in ASCII."""
    return chunk(b'tEXt', f'{keyword}\0{value}'.encode('ascii'))
