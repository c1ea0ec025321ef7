"""From whatever a file holds to upright, opaque sRGB."""

import pytest
from PIL import Image, ImageCms

from darkroom.storage.images import open_picture

from .pictures import (
    ADOBE_RGB,
    LINEAR_GREY,
    exif,
    icc,
    pixels,
    png,
    press,
    saved,
    with_chunk,
    with_segment,
)

WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def colours(data: bytes) -> list[tuple[int, ...]]:
    """Row by row."""
    with open_picture(data) as picture:
        assert picture.mode == "RGB"
        raw = picture.tobytes()
    return [tuple(raw[at : at + 3]) for at in range(0, len(raw), 3)]


def near(found: tuple[int, ...], wanted: tuple[int, ...], by: int = 1) -> bool:
    return all(abs(one - other) <= by for one, other in zip(found, wanted, strict=True))


def flat(colour: int | tuple[int, ...], mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (16, 16), colour)


# orientation


#: A corner each, read row by row, of the upright picture. What must be done to it to be stored so: EXIF's definition.
CORNERS = b"\xff\0\0\0\xff\0\0\0\xff\xff\xff\0\0\xff\xff\xff\0\xff"
UPRIGHT = Image.frombytes("RGB", (3, 2), CORNERS).resize((48, 32), Image.Resampling.NEAREST)
STORED = {
    1: UPRIGHT,
    2: UPRIGHT.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: UPRIGHT.rotate(180),
    4: UPRIGHT.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: UPRIGHT.transpose(Image.Transpose.TRANSPOSE),
    6: UPRIGHT.rotate(90, expand=True),
    7: UPRIGHT.transpose(Image.Transpose.TRANSVERSE),
    8: UPRIGHT.rotate(-90, expand=True),
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", STORED)
def test_every_orientation_in_every_format(orientation: int, form: str, order: str) -> None:
    options = {"PNG": {}, "JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}[form]
    block = exif(orientation, order)
    data = saved(STORED[orientation], form, exif=block if form == "PNG" else b"Exif\0\0" + block, **options)
    with open_picture(data) as picture:
        assert picture.size == (48, 32)
        found = [picture.getpixel((x, y)) for y in (8, 24) for x in (8, 24, 40)]
    wanted = [UPRIGHT.getpixel((x, y)) for y in (8, 24) for x in (8, 24, 40)]
    assert all(near(one, other, 3) for one, other in zip(found, wanted, strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("orientation", [0, 9, 65_535])
def test_an_orientation_that_is_none(orientation: int) -> None:
    with open_picture(saved(STORED[1], "PNG", exif=exif(orientation))) as picture:
        assert picture.tobytes() == UPRIGHT.tobytes()


def test_exif_behind_the_pixels() -> None:
    data = saved(STORED[6], "PNG")
    end = data.index(b"IEND") - 4
    moved = data[:end] + with_chunk(data, b"eXIf", exif(6))[33:].split(b"IDAT")[0][:-4] + data[end:]
    with open_picture(moved) as picture:
        assert picture.tobytes() == UPRIGHT.tobytes()


# transparency


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_what_is_transparent_becomes_white(form: str) -> None:
    image = flat((0, 0, 0, 0), "RGBA")
    image.paste((0, 0, 0, 255), (8, 0, 16, 16))
    found = colours(saved(image, form, lossless=True))
    assert (found[0], found[15]) == (WHITE, BLACK)


def test_half_transparent_red_is_pink() -> None:
    assert colours(saved(flat((255, 0, 0, 128), "RGBA"), "PNG"))[0] == (255, 127, 127)


def test_grey_with_alpha() -> None:
    assert colours(saved(flat((0, 128), "LA"), "PNG"))[0] == (127, 127, 127)


PALETTE = (b"PLTE", bytes([10, 10, 10, 20, 20, 20, 30, 30, 30]))


@pytest.mark.parametrize(
    ("alphas", "wanted"),
    [
        (b"", [10, 20, 30]),
        (b"\0", [255, 20, 30]),
        (b"\xff\0", [10, 255, 30]),
        (b"\x80\xff\0", [132, 20, 255]),
        (b"\xff\xff\0" + bytes(300), [10, 20, 255]),  # longer than any palette
    ],
)
def test_a_palettes_alphas(alphas: bytes, wanted: list[int]) -> None:
    data = png(3, 1, PALETTE, (b"tRNS", alphas), pixels(b"\0\1\2"), colours=3)
    assert [red for red, _, _ in colours(data)] == wanted


@pytest.mark.parametrize(
    ("depth", "kind", "key", "row", "wanted"),
    [
        (1, 0, b"\0\1", b"\x80", [255, 0]),
        (2, 0, b"\0\2", b"\x90", [255, 85]),  # the samples 2 and 1
        (4, 0, b"\0\3", b"\x34", [255, 68]),
        (8, 0, b"\0\7", b"\7\x08", [255, 8]),
        (8, 0, b"\1\7", b"\7\x08", [255, 8]),  # of the key only as many bits as a sample has
        (8, 2, b"\0\1\0\2\0\3", b"\1\2\3\1\2\4", [255, 1]),
        (16, 0, b"\x12\x34", b"\x12\x34\x12\x35", [255, 0x12]),
        (16, 2, b"\x12\x34\x56\x78\x9a\xbc", b"\x12\x34\x56\x78\x9a\xbc\x12\x34\x56\x78\x9a\xbd", [255, 0x12]),
    ],
)
def test_a_colour_that_is_transparent(depth: int, kind: int, key: bytes, row: bytes, wanted: list[int]) -> None:
    data = png(2, 1, (b"tRNS", key), pixels(row), depth=depth, colours=kind)
    assert [red for red, _, _ in colours(data)] == wanted


@pytest.mark.parametrize(("kind", "short"), [(0, b"\0"), (2, b"\0\1\0\2\0")])
def test_a_key_that_is_too_short_is_none(kind: int, short: bytes) -> None:
    assert colours(png(1, 1, (b"tRNS", short), pixels(b"\0\0\0"[: 1 + kind]), colours=kind)) == [BLACK]


# depth


@pytest.mark.parametrize(("kind", "samples"), [(0, 1), (2, 3), (4, 1), (6, 3)])
def test_sixteen_bits_a_sample_keep_their_tones(kind: int, samples: int) -> None:
    opaque = b"\xff\xff" if kind >= 4 else b""
    data = png(1, 1, pixels(b"\x9c\x40" * samples + opaque), depth=16, colours=kind)
    assert colours(data) == [(0x9C, 0x9C, 0x9C)]


# profiles


@pytest.mark.parametrize(
    ("form", "options"), [("PNG", {}), ("JPEG", {"quality": 100}), ("WEBP", {"lossless": True, "exact": True})]
)
def test_adobe_rgb_becomes_srgb(form: str, options: dict[str, object]) -> None:
    """sRGB's (40, 180, 60) is Adobe RGB's (106, 179, 72)."""
    found = colours(saved(flat((106, 179, 72)), form, icc_profile=ADOBE_RGB, **options))
    assert near(found[0], (40, 180, 60), 2)


def test_a_profile_beside_a_palette() -> None:
    found = colours(saved(flat((106, 179, 72)).quantize(2), "PNG", icc_profile=ADOBE_RGB))
    assert near(found[0], (40, 180, 60), 2)


def test_a_profile_beside_alpha() -> None:
    image = flat((106, 179, 72, 255), "RGBA")
    image.paste((106, 179, 72, 0), (8, 0, 16, 16))
    found = colours(saved(image, "PNG", icc_profile=ADOBE_RGB))
    assert near(found[0], (40, 180, 60), 2)
    assert found[15] == WHITE


@pytest.mark.parametrize(
    ("image", "form"),
    [
        (flat(55, "L"), "PNG"),
        (flat(55, "L"), "JPEG"),
        (flat((55, 255), "LA"), "PNG"),
        (flat(55 << 8, "I;16"), "PNG"),
    ],
)
def test_a_grey_profile(image: Image.Image, form: str) -> None:
    """A fifth of the light of white is 128 in sRGB."""
    assert near(colours(saved(image, form, icc_profile=LINEAR_GREY))[0], (128, 128, 128))


def test_cmyk_with_and_without_a_profile() -> None:
    inks = flat((200, 100, 0, 128), "CMYK")
    assert near(colours(saved(inks, "JPEG", quality=100))[0], (27, 77, 127), 2)
    with_profile = colours(saved(inks, "JPEG", quality=100, icc_profile=press()))[0]
    assert near(with_profile, (118, 118, 118), 3), "half of L*, and no colour"


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize(
    "profile",
    [
        b"no profile",
        ADOBE_RGB[:-20],
        ADOBE_RGB[:140],
        icc(b"RGB ", {}),
        icc(b"Lab ", {}, pcs=b"Lab "),
        LINEAR_GREY,  # of another colour space than the picture
        press(),
        SRGB,
        ADOBE_RGB + bytes(5_000_000),
    ],
)
@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_a_profile_that_says_nothing_changes_nothing(profile: bytes, form: str) -> None:
    image = Image.effect_noise((32, 32), 90).convert("RGB")
    assert colours(saved(image, form, lossless=True, icc_profile=profile)) == colours(saved(image, form, lossless=True))


def test_a_profile_in_several_segments_whatever_their_order() -> None:
    plain = saved(flat((106, 179, 72)), "JPEG", quality=100)
    halves = [(1, ADOBE_RGB[:200]), (2, ADOBE_RGB[200:])]
    for order in (halves, halves[::-1]):
        data = plain
        for number, half in order:
            data = with_segment(data, 0xE2, b"ICC_PROFILE\0" + bytes([number, 2]) + half)
        assert near(colours(data)[0], (40, 180, 60), 2)


def test_a_profile_that_would_take_hours_is_ignored() -> None:
    """A pipeline of 20,000 steps that all stand in the same place of the file."""
    step = b"matf\0\0\0\0\0\3\0\3" + bytes(48)
    many = 20_000
    steps = b"mpet\0\0\0\0\0\3\0\3" + many.to_bytes(4, "big")
    table = ((len(steps) + 8 * many).to_bytes(4, "big") + len(step).to_bytes(4, "big")) * many
    slow = icc(b"RGB ", {b"D2B0": steps + table + step, b"A2B0": bytes(4)}, version=0x04400000)
    assert colours(saved(flat((1, 2, 3)), "PNG", icc_profile=slow))[0] == (1, 2, 3)
