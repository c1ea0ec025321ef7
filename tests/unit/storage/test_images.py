"""Opening pictures that strangers made."""

import struct
import subprocess
import sys
import zlib
from io import BytesIO

import pytest
from PIL import Image

from darkroom.storage import errors
from darkroom.storage.images import open_image


def encoded(picture_format: str, size: tuple[int, int] = (8, 6), mode: str = "RGB", **options: object) -> bytes:
    file = BytesIO()
    Image.radial_gradient("L").resize(size).convert(mode).save(file, picture_format, **options)  # type: ignore[arg-type]
    return file.getvalue()


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG by hand, which may say of itself what it likes."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IEND", b"")]
    framed = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


@pytest.mark.parametrize("picture_format", ["PNG", "JPEG", "WEBP"])
def test_accepted(picture_format: str) -> None:
    image = open_image(encoded(picture_format))
    assert (image.format, image.size) == (picture_format, (8, 6))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_every_kind_of_png(mode: str) -> None:
    assert open_image(encoded("PNG", mode=mode)).mode == mode


def test_orientation_and_alpha_stay() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert open_image(encoded("JPEG", exif=exif)).getexif()[0x0112] == 6
    glass = BytesIO()
    Image.new("RGBA", (8, 6), (0, 0, 0, 100)).save(glass, "WEBP", lossless=True)
    assert open_image(glass.getvalue()).getpixel((0, 0)) == (0, 0, 0, 100)


@pytest.mark.parametrize("picture_format", ["PNG", "WEBP"])
def test_first_frame_of_an_animation(picture_format: str) -> None:
    frames = [Image.new("RGB", (8, 6), color) for color in ("red", "lime", "blue")]
    file = BytesIO()
    frames[0].save(file, picture_format, save_all=True, append_images=frames[1:], lossless=True)
    image = open_image(file.getvalue())
    assert image.convert("RGB").getpixel((0, 0)) == (255, 0, 0)


def test_multi_picture_jpeg_of_a_phone() -> None:
    first, second = Image.new("RGB", (8, 6), "red"), Image.new("RGB", (4, 3), "blue")
    file = BytesIO()
    first.save(file, "MPO", save_all=True, append_images=[second])
    assert open_image(file.getvalue()).size == (8, 6)


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
        open_image(data)
    assert caught.value.code == "input_not_an_image"


def test_the_name_of_a_file_means_nothing() -> None:
    """EPS within what calls itself a JPEG is not handed to the program that runs EPS."""
    with pytest.raises(errors.InputCorrupt):
        open_image(b"\xff\xd8\xff%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")


@pytest.mark.parametrize("picture_format", ["PNG", "JPEG", "WEBP"])
def test_bomb_at_the_limit(picture_format: str) -> None:
    data = encoded(picture_format, (20, 10))
    assert open_image(data, max_pixels=200).size == (20, 10)
    with pytest.raises(errors.InputBomb, match="20x10 pixels, over the limit of 199"):
        open_image(data, max_pixels=199)


@pytest.mark.parametrize("side", [7000, 10_000, 16_000, 60_000, 2**31 - 1])
def test_bomb_is_not_unpacked(side: int) -> None:
    """Below Pillow's own limit, above where it warns, and above where it raises: always ours."""
    with pytest.raises(errors.InputBomb):
        open_image(png(side, side, (b"IDAT", zlib.compress(bytes(1000)))))


def test_bomb_costs_no_memory() -> None:
    """400 MP of black: unpacked they would not fit into what this process may have."""
    program = (
        "import resource, sys, zlib\n"
        "resource.setrlimit(resource.RLIMIT_AS, (600_000_000, 600_000_000))\n"
        "from darkroom.storage import errors\n"
        "from darkroom.storage.images import open_image\n"
        "try: open_image(sys.stdin.buffer.read())\n"
        "except errors.InputBomb as error: print(error.code)\n"
    )
    squeezer = zlib.compressobj(9)
    pixels = b"".join(squeezer.compress(bytes(60_001)) for _ in range(2_000)) + squeezer.flush()
    bomb = png(20_000, 20_000, (b"IDAT", pixels))
    ran = subprocess.run([sys.executable, "-c", program], input=bomb, capture_output=True, check=True)
    assert ran.stdout.split() == [b"input_bomb"]


def test_jpeg_of_a_thousand_scans() -> None:
    """Each costs a pass over all pixels: a few kB can keep a decoder busy for minutes."""
    plain = encoded("JPEG", (64, 64), progressive=True)
    assert open_image(plain).size == (64, 64)
    last = plain.rindex(b"\xff\xda")
    with pytest.raises(errors.InputBomb, match="scans"):
        open_image(plain[:last] + plain[last:-2] * 1000 + plain[-2:])


def test_text_that_unpacks_to_a_lot() -> None:
    text = b"comment\0\0" + zlib.compress(bytes(50_000_000))
    with pytest.raises((errors.InputCorrupt, errors.InputBomb)):
        open_image(png(1, 1, (b"zTXt", text), (b"IDAT", zlib.compress(bytes(4)))))


@pytest.mark.parametrize("picture_format", ["PNG", "JPEG", "WEBP"])
def test_cut_off(picture_format: str) -> None:
    """Wherever it ends, a picture that lacks pixels is not taken for a whole one."""
    data = encoded(picture_format, (64, 64))
    whole = open_image(data).tobytes()
    taken = 0
    for length in range(12, len(data) - 1, 7):
        try:
            assert open_image(data[:length]).tobytes() == whole
            taken += 1
        except errors.InputCorrupt:
            pass
    assert taken <= 4, "only what follows the last pixel may be missing"


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("picture_format", ["PNG", "JPEG", "WEBP"])
def test_bytes_turned_over(picture_format: str) -> None:
    """Whatever a broken byte makes of a picture: an image or one of our errors."""
    data = encoded(picture_format, (64, 64))
    outcomes = set()
    for place in range(0, len(data), 5):
        broken = data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]
        try:
            open_image(broken)
        except errors.InputError as error:
            outcomes.add(error.code)
    assert "input_corrupt" in outcomes


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_exif_that_lies() -> None:
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1000) + bytes(20)
    assert open_image(encoded("JPEG", exif=exif)).size == (8, 6)
