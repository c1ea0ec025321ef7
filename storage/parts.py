"""Takes a picture's file apart: what makes its pixels, and of the rest only what says how to show them.

Decoders get the first part alone. Pillow's readers of text, EXIF and the like unpack, copy and raise on what strangers
wrote there, before the first pixel is read.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from darkroom.storage.errors import InputCorrupt

PictureFormat = Literal["PNG", "JPEG", "WEBP"]

_PNG = b"\x89PNG\r\n\x1a\n"
_MAKE_PIXELS = (b"IHDR", b"PLTE", b"IDAT")
_MAX_PROFILE = 4_000_000  # bytes; the ICC profiles of printing presses have 0.5 to 3 MB

#: The next marker: bytes of 0xFF fill, 0xFF00 is data.
_MARKER = re.compile(rb"\xff+([^\x00\xff])")
_ORIENTATION, _SHORT = 0x0112, 3  # a tag and a type of TIFF 6.0


@dataclass(frozen=True, slots=True)
class Parts:
    """`bare`: a file of the same format that holds the pixels. The others: absent or unreadable is None.

    `exif` is a TIFF block, `profile` an ICC profile, `depth` (bits a sample) and `transparency` PNG's IHDR and tRNS.
    """

    bare: bytes
    exif: bytes | None = None
    profile: bytes | None = None
    depth: int = 8
    transparency: bytes | None = None

    @property
    def orientation(self) -> int:
        """EXIF's, 1 to 8; 1, upright, where nothing readable says otherwise."""
        block = (self.exif or b"").removeprefix(b"Exif\0\0")
        order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
        if order is None:
            return 1
        try:
            (at,) = struct.unpack_from(f"{order}L", block, 4)
            (count,) = struct.unpack_from(f"{order}H", block, at)
            entries = [struct.unpack_from(f"{order}HHLH", block, at + 2 + 12 * i) for i in range(count)]
        except struct.error:
            return 1
        return next((value for tag, kind, _, value in entries if (tag, kind) == (_ORIENTATION, _SHORT)), 1)


def take_apart(data: bytes, form: PictureFormat) -> Parts:
    """Raises InputCorrupt where a part of a PNG that its pixels need is damaged; decoders find the rest."""
    return {"PNG": _png, "JPEG": _jpeg, "WEBP": _webp}[form](data)


def _png(data: bytes) -> Parts:
    found: dict[bytes, bytes] = {}
    pixels = []
    for name, body in _png_chunks(data):
        if name == b"IDAT":
            pixels.append(body)
        elif name in (*_MAKE_PIXELS, b"tRNS", b"eXIf", b"iCCP"):
            found.setdefault(name, bytes(body))
    kept = [(name, found[name]) for name in (b"IHDR", b"PLTE") if name in found]
    bare = b"".join([_PNG, *(_png_chunk(*one) for one in [*kept, (b"IDAT", b"".join(pixels)), (b"IEND", b"")])])
    depth = found.get(b"IHDR", b"")[8:9] or b"\x08"
    return Parts(bare, found.get(b"eXIf"), _inflated(found.get(b"iCCP", b"")), depth[0], found.get(b"tRNS"))


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    view, at = memoryview(data), len(_PNG)
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        body, end = view[at + 8 : at + 8 + length], at + 8 + length
        if end + 4 > len(data) and name in _MAKE_PIXELS:
            raise InputCorrupt(f"the input ends within its {name.decode()}")
        if end + 4 > len(data) or name == b"IEND":
            return
        if name in _MAKE_PIXELS and zlib.crc32(body, zlib.crc32(name)) != struct.unpack_from(">I", data, end)[0]:
            raise InputCorrupt(f"the input's {name.decode()} is damaged: its checksum differs")
        yield name, body
        at = end + 4


def _png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))


def _inflated(chunk: bytes) -> bytes | None:
    """The profile of an iCCP chunk: a name, a zero, the method (0), zlib's data."""
    unpacker = zlib.decompressobj()
    try:
        profile = unpacker.decompress(chunk.partition(b"\0")[2][1:], _MAX_PROFILE)
    except zlib.error:
        return None
    return profile if profile and unpacker.eof else None


def _jpeg(data: bytes) -> Parts:
    """Segments up to the first scan; of applications' segments those that tell decoders the colour space stay."""
    kept, exif = [data[:2]], None
    profile: dict[int, bytes] = {}
    at = 2
    while (found := _MARKER.search(data, at)) is not None:
        marker, at = found[1][0], found.end()
        if marker in (0xD9, 0xDA):  # the end, or a scan: from here on it is the decoder's
            kept.append(data[at - 2 :])
            break
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # these have no length
            continue
        end = at + int.from_bytes(data[at : at + 2], "big")
        body, whole = data[at + 2 : end], data[at - 2 : end]
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            exif = exif or body
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0") and len(body) > 14:
            profile[body[12]] = body[14:]
        elif not (0xE0 <= marker <= 0xEF or marker == 0xFE) or _tells_colours(marker, body):
            kept.append(whole)
        at = max(at, end)
    return Parts(b"".join(kept), exif, _joined(profile))


def _tells_colours(marker: int, body: bytes) -> bool:
    return (marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 14) or (
        marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12
    )


def _joined(pieces: dict[int, bytes]) -> bytes | None:
    whole = b"".join(pieces[number] for number in sorted(pieces))
    complete = pieces and sorted(pieces) == list(range(1, len(pieces) + 1))
    return whole if complete and len(whole) <= _MAX_PROFILE else None


def _webp(data: bytes) -> Parts:
    """The file stays as it is: libwebp does not look into metadata."""
    found: dict[bytes, bytes] = {}
    at = 12
    while at + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, at)
        if name in (b"EXIF", b"ICCP"):
            found.setdefault(name, data[at + 8 : at + 8 + length])
        at += 8 + length + length % 2
    profile = found.get(b"ICCP")
    return Parts(data, found.get(b"EXIF"), profile if profile and len(profile) <= _MAX_PROFILE else None)
