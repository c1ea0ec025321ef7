"""Pictures and profiles by hand, which may say of themselves what they like."""

import struct
import zlib
from io import BytesIO

from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encoded(picture_format: str, size: tuple[int, int] = (8, 6), mode: str = "RGB", **options: object) -> bytes:
    image = Image.radial_gradient("L").resize(size).convert(mode)
    return saved(image, picture_format, **options)


def saved(image: Image.Image, picture_format: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, picture_format, **options)  # type: ignore[arg-type]
    return file.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, *chunks: tuple[bytes, bytes], depth: int = 8, colours: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    return SIGNATURE + b"".join(chunk(*one) for one in [(b"IHDR", header), *chunks, (b"IEND", b"")])


def pixels(*rows: bytes) -> tuple[bytes, bytes]:
    """An IDAT of unfiltered rows."""
    return b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))


def with_chunk(data: bytes, name: bytes, body: bytes) -> bytes:
    """A PNG with one chunk more, behind its IHDR."""
    return data[:33] + chunk(name, body) + data[33:]


def with_segment(data: bytes, marker: int, body: bytes) -> bytes:
    """A JPEG with one segment more, at its begin."""
    return data[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body + data[2:]


def exif(orientation: int, order: str = ">", kind: int = 3) -> bytes:
    """A TIFF block of one tag."""
    head = b"MM\0*" if order == ">" else b"II*\0"
    return head + struct.pack(f"{order}LHHHLHHL", 8, 1, 0x0112, kind, 1, orientation, 0, 0)


def icc(space: bytes, tags: dict[bytes, bytes], pcs: bytes = b"XYZ ", version: int = 0x02400000) -> bytes:
    """An ICC profile (ICC.1:2022, 7)."""
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, tag in tags.items():
        table += name + struct.pack(">II", start + len(body), len(tag))
        body += tag + bytes(-len(tag) % 4)
    kind = b"prtr" if space == b"CMYK" else b"mntr"
    head = struct.pack(">I4xI4s4s4s12x4s28x", start + len(body), version, kind, space, pcs, b"acsp")
    return (head + fixed(0.9642, 1.0, 0.8249)).ljust(128, b"\0") + table + body


def fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + fixed(*values)


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


WHITE = xyz(0.9642, 1.0, 0.8249)

#: Adobe RGB (1998): its primaries at D50, and its gamma.
ADOBE_RGB = icc(
    b"RGB ",
    {
        b"wtpt": WHITE,
        b"rXYZ": xyz(0.60974, 0.31111, 0.01947),
        b"gXYZ": xyz(0.20528, 0.62567, 0.06087),
        b"bXYZ": xyz(0.14919, 0.06322, 0.74457),
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma(2.19921875)),
    },
)

#: Light itself, without a gamma.
LINEAR_GREY = icc(b"GRAY", {b"wtpt": WHITE, b"kTRC": gamma(1.0)})


def press() -> bytes:
    """A CMYK profile (lut8, two steps an ink) of a press that prints nothing but grey, and that by its key alone."""
    levels = bytes(range(256))
    nodes = b"".join(bytes([0 if node & 1 else 255, 128, 128]) for node in range(16))
    matrix = fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + levels * 4 + nodes + levels * 3
    return icc(b"CMYK", {b"wtpt": WHITE, b"A2B0": lut}, pcs=b"Lab ")
