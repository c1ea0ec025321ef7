"""Opening pictures that strangers made."""

import subprocess
import sys
import threading
import warnings
import zlib
from io import BytesIO

import pytest
from PIL import Image

from darkroom.storage import errors, images
from darkroom.storage.gate import PixelGate
from darkroom.storage.images import open_picture, picture_format

from .pictures import encoded, png, with_chunk, with_segment

FORMATS = ("PNG", "JPEG", "WEBP")


def opened(data: bytes, **options: int) -> Image.Image:
    with open_picture(data, **options) as picture:
        return picture.copy()


@pytest.mark.parametrize("form", FORMATS)
def test_accepted(form: str) -> None:
    data = encoded(form)
    assert picture_format(data) == form
    picture = opened(data)
    assert (picture.mode, picture.size) == ("RGB", (8, 6))


def test_a_picture_lasts_as_long_as_its_context() -> None:
    with open_picture(encoded("PNG")) as picture:
        picture.load()
    with pytest.raises(ValueError, match="closed"):
        picture.load()


@pytest.mark.parametrize("picture_format", ["PNG", "WEBP"])
def test_first_frame_of_an_animation(picture_format: str) -> None:
    frames = [Image.new("RGB", (8, 6), color) for color in ("red", "lime", "blue")]
    file = BytesIO()
    frames[0].save(file, picture_format, save_all=True, append_images=frames[1:], lossless=True)
    assert opened(file.getvalue()).getpixel((0, 0)) == (255, 0, 0)


def test_multi_picture_jpeg_of_a_phone() -> None:
    first, second = Image.new("RGB", (8, 6), "red"), Image.new("RGB", (4, 3), "blue")
    file = BytesIO()
    first.save(file, "MPO", save_all=True, append_images=[second])
    assert opened(file.getvalue()).size == (8, 6)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"", "empty"),
        (encoded("GIF", mode="L"), "a GIF"),
        (encoded("BMP"), "a BMP"),
        (encoded("TIFF"), "a TIFF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n", "a PostScript file"),
        (b"\xc5\xd0\xd3\xc6" + bytes(40), "a PostScript file"),
        (b"%PDF-1.7", "a PDF"),
        (b"\n <!DOCTYPE html><html>not found</html>", "an HTML page"),
        (b"<HTML>", "an HTML page"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG"),
        (b"\xef\xbb\xbf<?xml version='1.0'?><svg/>", "an XML or HTML document"),
        (b'{"error": "no such picture"}', "JSON"),
        (b"RIFF\x00\x00\x00\x00WAVE", "something else"),
        (b"PK\x03\x04", "something else"),
    ],
)
def test_not_an_image(data: bytes, name: str) -> None:
    with pytest.raises(errors.InputNotAnImage, match=f"is {name}; accepted are PNG, JPEG and WebP") as caught:
        opened(data)
    assert caught.value.code == "input_not_an_image"


def test_the_name_of_a_file_means_nothing() -> None:
    """EPS within what calls itself a JPEG is not handed to the program that runs EPS."""
    with pytest.raises(errors.InputCorrupt):
        opened(b"\xff\xd8\xff%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")


@pytest.mark.parametrize("picture_format", ["PNG", "JPEG", "WEBP"])
def test_bomb_at_the_limit(picture_format: str) -> None:
    data = encoded(picture_format, (20, 10))
    assert opened(data, max_pixels=200).size == (20, 10)
    with pytest.raises(errors.InputBomb, match="20x10 pixels, over the limit of 199"):
        opened(data, max_pixels=199)


@pytest.mark.parametrize("side", [7000, 10_000, 16_000, 60_000, 2**31 - 1])
def test_bomb_is_not_unpacked(side: int) -> None:
    """Below Pillow's own limit, above where it warns, and above where it raises: always ours."""
    with warnings.catch_warnings(record=True) as warned, pytest.raises(errors.InputBomb, match=f"{side}x{side} pixels"):
        opened(png(side, side, (b"IDAT", zlib.compress(bytes(1000)))))
    assert warned == []


def test_bomb_costs_no_memory() -> None:
    """400 MP of black: unpacked they would not fit into what this process may have."""
    program = (
        "import resource, sys, zlib\n"
        "resource.setrlimit(resource.RLIMIT_AS, (600_000_000, 600_000_000))\n"
        "from darkroom.storage import errors\n"
        "from darkroom.storage.images import open_picture\n"
        "try: open_picture(sys.stdin.buffer.read()).__enter__()\n"
        "except errors.InputBomb as error: print(error.code)\n"
    )
    squeezer = zlib.compressobj(1)
    pixels = b"".join(squeezer.compress(bytes(60_001)) for _ in range(2_000)) + squeezer.flush()
    bomb = png(20_000, 20_000, (b"IDAT", pixels))
    ran = subprocess.run([sys.executable, "-c", program], input=bomb, capture_output=True, check=True)
    assert ran.stdout.split() == [b"input_bomb"]


def test_jpeg_of_a_thousand_scans() -> None:
    """Each costs a pass over all pixels: a few kB can keep a decoder busy for minutes."""
    plain = encoded("JPEG", (64, 64), progressive=True)
    assert opened(plain).size == (64, 64)
    last = plain.rindex(b"\xff\xda")
    with pytest.raises(errors.InputBomb, match="scans"):
        opened(plain[:last] + plain[last:-2] * 1000 + plain[-2:])


# metadata


@pytest.mark.parametrize(
    ("name", "body"),
    [
        (b"zTXt", b"comment\0\0" + zlib.compress(bytes(50_000_000))),
        (b"iTXt", b"comment\0\1\0\0\0" + zlib.compress(bytes(50_000_000))),
        (b"iCCP", b"a\0\0" + zlib.compress(bytes(50_000_000))),
        (b"tEXt", b"exif\0\0"),
        (b"tEXt", b"xmp\0text"),
        (b"tEXt", b"Raw profile type exif\0no number"),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0\xff\xfe"),
        (b"eXIf", b"no TIFF"),
        (b"eXIf", b"MM\0*\xff\xff\xff\xff"),
        (b"iCCP", b""),
        (b"iCCP", b"a\0\7nothing"),
        (b"acTL", b""),
        (b"fcTL", bytes(26)),
        (b"gAMA", b""),
        (b"zTXt", b"a\0\7"),
    ],
)
def test_broken_metadata_of_a_png_is_ignored(name: bytes, body: bytes) -> None:
    plain = encoded("PNG")
    assert opened(with_chunk(plain, name, body)).tobytes() == opened(plain).tobytes()


def test_a_megabyte_of_texts_is_not_unpacked() -> None:
    text = (b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000)))
    data = png(1, 1, *[text] * 1000, (b"IDAT", zlib.compress(bytes(4))))
    assert len(data) > 1_000_000
    assert opened(data).size == (1, 1)


@pytest.mark.parametrize(
    ("marker", "body"),
    [
        (0xE1, b"Exif\0\0no TIFF"),
        (0xE1, b"Exif\0\0II*\0\x08\0\0\0\xe8\x03" + bytes(20)),
        (0xE2, b"MPF\0"),
        (0xE2, b"MPF\0MM\0*\0\0\0\x08\0\1"),
        (0xE2, b"ICC_PROFILE\0"),
        (0xE2, b"ICC_PROFILE\0\1\2half"),
        (0xED, b"Photoshop 3.0\x008BIM\x03\xed\x01"),
        (0xEE, b"Adobe"),
        (0xE0, b"JFIF"),
        (0xFE, b""),
    ],
)
def test_broken_metadata_of_a_jpeg_is_ignored(marker: int, body: bytes) -> None:
    plain = encoded("JPEG")
    assert opened(with_segment(plain, marker, body)).tobytes() == opened(plain).tobytes()


@pytest.mark.parametrize("metadata", [{"exif": b"no TIFF"}, {"icc_profile": b"no profile"}, {"xmp": b"<"}])
def test_broken_metadata_of_a_webp_is_ignored(metadata: dict[str, bytes]) -> None:
    assert opened(encoded("WEBP", **metadata)).tobytes() == opened(encoded("WEBP")).tobytes()


def test_exif_that_points_a_thousand_times_at_the_same_place() -> None:
    """Every entry would be copied: from 600 kB of file 30 GB of memory."""
    entries = b"".join(
        tag.to_bytes(2, "big") + b"\0\7" + (600_000).to_bytes(4, "big") + bytes(4) for tag in range(50_000)
    )
    block = b"MM\0*\0\0\0\x08" + (50_000).to_bytes(2, "big") + entries
    assert opened(with_chunk(encoded("PNG"), b"eXIf", block)).size == (8, 6)


# the whole process


def test_pictures_wait_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "GATE", PixelGate(100))
    inside = threading.Event()
    with open_picture(encoded("PNG")):
        other = threading.Thread(target=lambda: (opened(encoded("PNG", (10, 9))), inside.set()))
        other.start()
        assert not inside.wait(0.1)
    assert inside.wait(10)
    other.join()


def test_a_picture_that_fails_leaves_its_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "GATE", PixelGate(48))
    broken = png(8, 6, (b"IDAT", zlib.compress(bytes(10))))
    for _ in range(2):
        with pytest.raises(errors.InputCorrupt):
            opened(broken)
    assert opened(encoded("PNG")).size == (8, 6)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_decoding_ends_when_its_time_is_used_up(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_SECONDS", 0.0)
    with pytest.raises(errors.InputBomb, match="takes over 0 s to decode"):
        opened(encoded(form, (500, 500)))


# damage


@pytest.mark.parametrize("picture_format", ["PNG", "JPEG", "WEBP"])
def test_cut_off(picture_format: str) -> None:
    """Wherever it ends, a picture that lacks pixels is not taken for a whole one."""
    data = encoded(picture_format, (64, 64))
    whole = opened(data).tobytes()
    taken = 0
    for length in range(12, len(data) - 1, 7):
        try:
            assert opened(data[:length]).tobytes() == whole
            taken += 1
        except errors.InputCorrupt:
            pass
    assert taken <= 4, "only what follows the last pixel may be missing"


@pytest.mark.parametrize("picture_format", ["PNG", "JPEG", "WEBP"])
def test_bytes_turned_over(picture_format: str) -> None:
    """Whatever a broken byte makes of a picture: an image or one of our errors."""
    data = encoded(picture_format, (64, 64))
    outcomes = set()
    for place in range(0, len(data), 5):
        broken = data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]
        try:
            opened(broken)
        except errors.InputError as error:
            outcomes.add(error.code)
    assert "input_corrupt" in outcomes
