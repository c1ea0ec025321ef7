"""Pictures damaged on purpose, each from its seed: bytes anywhere, or whole parts with right lengths and checksums."""

import random
import struct
import zlib
from collections.abc import Callable
from functools import cache

from PIL import Image

from .pictures import ADOBE_RGB, LINEAR_GREY, SIGNATURE, chunk, encoded, exif, png, saved, with_segment

_CHUNKS = (
    b"IHDR PLTE IDAT IEND tRNS eXIf iCCP tEXt zTXt iTXt gAMA cHRM sRGB pHYs acTL fcTL fdAT sBIT bKGD hIST tIME cICP"
)
_KEYS = (
    b"exif",
    b"xmp",
    b"XML:com.adobe.xmp",
    b"Raw profile type exif",
    b"icc_profile",
    b"transparency",
    b"",
    b"a" * 99,
)
_MARKERS = (*range(0xE0, 0xF0), 0xFE, 0xC0, 0xC2, 0xC4, 0xDB, 0xDD, 0xDA, 0xD9, 0xD8, 0xD0, 0x01)
_BEGINS = (
    b"Exif\0\0",
    b"ICC_PROFILE\0\1\1",
    b"ICC_PROFILE\0\0\0",
    b"MPF\0",
    b"MPF\0MM\0*\0\0\0\x08",
    b"http://ns.adobe.com/xap/1.0/\0",
    b"Photoshop 3.0\0" + b"8BIM",
    b"JFIF\0",
    b"Adobe",
    b"FPXR\0",
    b"",
)


@cache
def whole() -> tuple[bytes, ...]:
    """Good pictures of every format and mode."""
    frames = [Image.new("RGB", (24, 18), colour) for colour in ("red", "lime", "blue")]
    moving = {"save_all": True, "append_images": frames[1:]}
    palette = Image.radial_gradient("L").resize((24, 18)).convert("P")
    pngs = [encoded("PNG", (24, 18), mode) for mode in ("1", "L", "LA", "RGB", "RGBA", "I;16", "P")]
    pngs += [
        saved(palette, "PNG", transparency=bytes(range(200))),
        saved(palette, "PNG", transparency=7, bits=4),
        saved(frames[0], "PNG", icc_profile=ADOBE_RGB, exif=exif(6)),
        saved(frames[0], "PNG", **moving),
        *(png(6, 4, (b"IDAT", zlib.compress(bytes(400))), depth=16, colours=colours) for colours in (0, 2, 4, 6)),
    ]
    jpegs = [encoded("JPEG", (24, 18), mode) for mode in ("L", "RGB", "CMYK")]
    jpegs += [
        encoded("JPEG", (24, 18), progressive=True, exif=b"Exif\0\0" + exif(8), icc_profile=ADOBE_RGB),
        encoded("JPEG", (24, 18), "L", icc_profile=LINEAR_GREY),
        saved(frames[0], "MPO", **moving),
    ]
    webps = [
        encoded("WEBP", (24, 18), exif=exif(3), icc_profile=ADOBE_RGB),
        encoded("WEBP", (24, 18), lossless=True),
        encoded("WEBP", (24, 18), "RGBA"),
        saved(frames[0], "WEBP", **moving),
    ]
    return (*pngs, *jpegs, *webps)


def hostile(seed: int) -> bytes:
    """The picture of that seed."""
    rng = random.Random(seed)
    data = rng.choice(whole())
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice((_BY_PART, _BY_BYTE)[rng.random() < 0.3])(data, rng)
    return data


def _flip(data: bytes, rng: random.Random) -> bytes:
    broken = bytearray(data)
    for _ in range(rng.choice((1, 2, 8))):
        broken[rng.randrange(len(broken))] = rng.randrange(256)
    return bytes(broken)


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(12, len(data) + 1)]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    begin, end = sorted(rng.sample(range(len(data) + 1), 2))
    return data[:begin] + data[begin:end] * rng.choice((0, 2, 3)) + data[end:]


def _cross(data: bytes, rng: random.Random) -> bytes:
    other = rng.choice(whole())
    return data[: rng.randrange(12, len(data) + 1)] + other[rng.randrange(len(other)) :]


def _junk(rng: random.Random) -> bytes:
    """What may stand in a part: nothing, noise, a block of EXIF or a profile with damage, a text, much in little."""
    kinds: tuple[Callable[[], bytes], ...] = (
        lambda: b"",
        lambda: rng.randbytes(rng.choice((1, 4, 30, 300))),
        lambda: bytes([rng.choice((0, 1, 254, 255))]) * rng.choice((2, 6, 256, 257, 768, 1000)),
        lambda: exif(rng.choice((0, 1, 5, 9, 65_535)), rng.choice("<>"), rng.choice((1, 3, 4, 13))),
        lambda: _flip(exif(6), rng),
        lambda: b"MM\0*\0\0\0\x08" + struct.pack(">H", 2000) + rng.randbytes(60),
        lambda: _flip(rng.choice((ADOBE_RGB, LINEAR_GREY)), rng),
        lambda: rng.choice(_KEYS) + b"\0" + rng.choice((b"", b"\0", b"\1\0\0\0", b"exif\n  99\nzz")) + rng.randbytes(8),
        lambda: rng.choice(_KEYS) + b"\0\0" + zlib.compress(bytes(2_000_000)),
        lambda: struct.pack(">6IHHBB", 0, *(rng.choice((0, 1, 24, 2**31)) for _ in range(5)), 1, 0, 1, 1),
    )
    return rng.choice(kinds)()


def _part(data: bytes, rng: random.Random) -> bytes:
    if data.startswith(SIGNATURE):
        at = 8 if rng.random() < 0.1 else 33
        return data[:at] + chunk(rng.choice(_CHUNKS.split()), _junk(rng)) + data[at:]
    if data.startswith(b"\xff\xd8"):
        return with_segment(data, rng.choice(_MARKERS), (rng.choice(_BEGINS) + _junk(rng))[:60_000])
    name, junk = rng.choice((b"EXIF", b"ICCP", b"XMP ", b"ANIM", b"ANMF", b"ALPH", b"VP8X", b"what")), _junk(rng)
    more = name + struct.pack("<I", len(junk)) + junk + bytes(len(junk) % 2)
    at = rng.choice((12, 30, len(data)))
    return data[:4] + struct.pack("<I", len(data) - 8 + len(more)) + data[8:at] + more + data[at:]


def _rewrite(data: bytes, rng: random.Random) -> bytes:
    """A PNG's header with another field; of the others any byte of the first hundred."""
    if not data.startswith(SIGNATURE) or len(data) < 33:
        at = rng.randrange(12, min(112, len(data) + 12))
        return data[:at] + rng.randbytes(1) + data[at + 1 :]
    header = bytearray(data[16:29])
    at = rng.choice((2, 3, 6, 7, 8, 9, 12))
    header[at] = rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 20, 255))
    return data[:8] + chunk(b"IHDR", bytes(header)) + data[33:]


_BY_BYTE = (_flip, _cut, _repeat, _cross)
_BY_PART = (_part, _part, _part, _rewrite)
