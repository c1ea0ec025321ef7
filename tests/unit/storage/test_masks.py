"""Masks: which pixels a file marks, whatever its format, mode, orientation and channels."""

from io import BytesIO

import pytest
from PIL import Image, ImageDraw

from darkroom.storage import errors
from darkroom.storage.colours import MaskChannel
from darkroom.storage.images import open_mask

from .pictures import LINEAR_GREY, encoded, exif, pixels, png, saved, with_chunk, with_segment


def levels(data: bytes, channel: MaskChannel = "auto") -> list[int]:
    """Row by row."""
    with open_mask(data, channel) as mask:
        assert mask.mode == "L"
        return list(mask.tobytes())


def of(mode: str, *colours: object) -> bytes:
    """A PNG of one row, a pixel of each colour."""
    image = Image.new(mode, (len(colours), 1))
    for x, colour in enumerate(colours):
        image.putpixel((x, 0), colour)  # type: ignore[arg-type]
    return saved(image, "PNG")


def test_white_is_marked_and_grey_by_its_light() -> None:
    assert levels(of("L", 0, 100, 255)) == [0, 100, 255]
    assert levels(of("1", 0, 255)) == [0, 255]
    assert levels(of("RGB", (255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 255, 0))) == [255, 0, 76, 150]


def test_by_alpha_what_is_transparent_is_marked() -> None:
    data = of("RGBA", (255, 255, 255, 255), (0, 0, 0, 0), (9, 9, 9, 100))
    assert levels(data, "alpha") == levels(data) == [0, 255, 155]


def test_by_luminance_what_is_transparent_is_as_black() -> None:
    assert levels(of("RGBA", (255, 255, 255, 255), (255, 255, 255, 0), (255, 255, 255, 100)), "luminance") == [
        255,
        0,
        100,
    ]


def test_an_opaque_mask_with_alpha_is_read_by_luminance() -> None:
    """Editors save black and white so; a pixel that is hardly transparent marks nothing."""
    assert levels(of("RGBA", (255, 255, 255, 255), (0, 0, 0, 255))) == [255, 0]
    assert levels(of("LA", (255, 128), (0, 255))) == [128, 0]
    assert levels(of("LA", (255, 127), (0, 255))) == [128, 0]  # from half on it is by alpha: 255 - 127
    assert levels(of("LA", (0, 127), (255, 255))) == [128, 0]


def test_no_alpha_marks_nothing_by_alpha() -> None:
    assert levels(of("RGB", (255, 255, 255)), "alpha") == [0]


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (png(2, 1, (b"PLTE", bytes(6)), (b"tRNS", b"\0\xff"), pixels(b"\0\1"), colours=3), [255, 0]),
        (png(2, 1, (b"tRNS", b"\0\7"), pixels(b"\7\xff"), colours=0), [255, 0]),
        (png(1, 1, pixels(b"\x80\x01"), depth=16, colours=0), [128]),
        (png(2, 1, pixels(b"\x40"), depth=1, colours=0), [0, 255]),
    ],
)
def test_palettes_transparent_colours_and_depths(data: bytes, wanted: list[int]) -> None:
    assert levels(data) == wanted


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_every_format(form: str) -> None:
    assert max(levels(encoded(form, mode="L"))) > 200


def test_webp_with_alpha() -> None:
    image = Image.new("RGBA", (16, 16), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 8, 16))
    assert levels(saved(image, "WEBP", lossless=True))[:16] == [255] * 8 + [0] * 8


def test_it_is_turned_as_exif_says() -> None:
    image = Image.new("L", (16, 32))
    image.paste(255, (0, 0, 16, 16))
    with open_mask(with_segment(saved(image, "JPEG"), 0xE1, b"Exif\0\0" + exif(6)), "auto") as mask:
        assert mask.size == (32, 16)
        assert mask.getpixel((31, 0)) > 250 and mask.getpixel((0, 0)) < 5  # type: ignore[operator]


def test_a_profile_has_no_say() -> None:
    plain = of("L", 100, 200)
    profiled = BytesIO()
    Image.open(BytesIO(plain)).save(profiled, "PNG", icc_profile=LINEAR_GREY)
    assert levels(profiled.getvalue()) == levels(plain)


def test_an_animations_first_frame() -> None:
    frames = [Image.new("L", (8, 8), level) for level in (255, 0)]
    file = BytesIO()
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:])
    assert set(levels(file.getvalue())) == {255}


def test_the_noise_of_a_jpeg_stays_on_its_side_of_the_half() -> None:
    image = Image.new("L", (64, 64))
    ImageDraw.Draw(image).ellipse((10, 10, 50, 50), fill=255)
    noisy = levels(saved(image, "JPEG", quality=30))
    assert len(set(noisy)) > 20
    inside = [(x - 30) ** 2 + (y - 30) ** 2 for y in range(64) for x in range(64)]
    far = [(level, at) for level, at in zip(noisy, inside, strict=True) if abs(at**0.5 - 20.5) > 1.5]
    assert all((level >= 128) == (at < 20**2) for level, at in far)


def test_what_is_no_picture_is_refused_as_any_input_is() -> None:
    for data, error in (
        (b"GIF89a", errors.InputNotAnImage),
        (encoded("PNG")[:40], errors.InputCorrupt),
        (png(9000, 9000), errors.InputBomb),
    ):
        with pytest.raises(error), open_mask(data, "auto"):
            pass
    assert levels(with_chunk(of("L", 255), b"tEXt", b"exif\0no TIFF")) == [255]
