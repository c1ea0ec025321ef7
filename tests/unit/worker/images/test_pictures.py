"""Source pictures brought to size, results encoded with their parameters."""

import io

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from darkroom.storage.errors import InputBomb
from darkroom.tasks.catalogue import Limits
from darkroom.tasks.requests.parts import OutputFormat
from darkroom.tasks.sizes import LONGEST_SIDE, MOST_SIDE
from darkroom.worker.images.pictures import encode, parameters_text, read_parameters
from darkroom.worker.kinds.asked import Asked
from darkroom.worker.kinds.sources import fitting_size, prepare_source, read_source
from tests.unit.worker.conftest import photo, same

LIMITS = Limits(min_side=32, max_side=256, max_pixels=128 * 128)
FORMATS: tuple[OutputFormat, ...] = ("png", "jpeg", "webp")
RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def halves(left: tuple[int, ...], right: tuple[int, ...], size: tuple[int, int] = (64, 32)) -> Image.Image:
    """Two colours side by side."""
    image = Image.new("RGB", size, left)
    image.paste(right, (size[0] // 2, 0, *size))
    return image


def asked(**changes: object) -> Asked:
    fields = {
        "prompt": "a red fox",
        "negative_prompt": None,
        "width": 64,
        "height": 48,
        "num_inference_steps": 30,
        "guidance_scale": 7.0,
        "scheduler": "euler_a",
        "strength": 1.0,
        "limits": Limits(),
    }
    return Asked(**{**fields, **changes})  # type: ignore[arg-type]


# sources


def test_a_picture_that_fits_comes_back_as_it_is() -> None:
    assert same(prepare_source(photo(1, 64, 48), 64, 48, LIMITS), photo(1, 64, 48))
    assert same(prepare_source(photo(1, 64, 48), None, None, LIMITS), photo(1, 64, 48))


def test_an_asked_size_is_covered_and_cut_about_the_centre() -> None:
    wide = Image.new("RGB", (120, 32), WHITE)
    wide.paste(RED, (44, 0, 76, 32))
    assert np.asarray(prepare_source(wide, 32, 32, LIMITS)).tolist() == [[list(RED)] * 32] * 32


def test_a_source_is_turned_before_its_size_is_chosen() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    out = io.BytesIO()
    halves(RED, GREEN).save(out, "PNG", exif=exif)
    upright, _ = read_source(out.getvalue(), None, None, LIMITS, 40_000_000)
    assert upright.size == (32, 64)
    assert upright.getpixel((16, 8)) == RED and upright.getpixel((16, 56)) == GREEN
    assert same(prepare_source(upright, None, None, LIMITS), upright)


def test_a_source_over_the_limit_is_refused() -> None:
    with pytest.raises(InputBomb):
        read_source(encode(photo(1, 64, 48), "png", "")[0], None, None, LIMITS, 64 * 48 - 1)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((64, 48), (64, 48)),
        ((70, 63), (64, 56)),  # down to the grid, never up
        ((512, 512), (128, 128)),  # into the pixels
        ((300, 60), (256, 48)),  # into the longest side
        ((10, 20), (32, 64)),  # up to the shortest side
        ((2000, 20), (256, 32)),  # proportions that no allowed size has
    ],
)
def test_a_size_is_kept_as_far_as_the_limits_let(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    assert fitting_size(*size, LIMITS) == wanted


#: Whose pixels are fewer than those of the longest side by the shortest.
NARROW = Limits(min_side=256, max_pixels=512 * 512)


@pytest.mark.parametrize("limits", [LIMITS, NARROW])
@given(width=st.integers(1, 20_000), height=st.integers(1, 20_000))
@example(width=2000, height=300)
def test_a_chosen_size_is_always_within_the_limits(limits: Limits, width: int, height: int) -> None:
    sides = fitting_size(width, height, limits)
    assert all(side % limits.grid == 0 and limits.min_side <= side <= limits.max_side for side in sides)
    assert sides[0] * sides[1] <= limits.max_pixels
    assert fitting_size(*sides, limits) == sides


# results


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("text", ["a fox, Seed: 1", "naïve café", "猫と犬 Кошка 🦊 \n次", "", "x" * 20_000])
def test_the_parameters_survive_in_every_format(form: OutputFormat, text: str) -> None:
    data, content_type = encode(photo(), form, text)
    assert read_parameters(data) == text
    assert content_type == f"image/{form}"
    assert Image.open(io.BytesIO(data)).format == form.upper()


def test_the_longest_side_that_a_format_holds() -> None:
    """What is allowed at submit can be written."""
    for form, most in {"png": MOST_SIDE, "jpeg": MOST_SIDE, **LONGEST_SIDE}.items():
        data, _ = encode(Image.new("RGB", (most, 8)), form, "")  # type: ignore[arg-type]
        assert Image.open(io.BytesIO(data)).size == (most, 8)
    with pytest.raises(ValueError):
        encode(Image.new("RGB", (LONGEST_SIDE["webp"] + 1, 8)), "webp", "")


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_input_gives_the_same_bytes(form: OutputFormat) -> None:
    assert encode(photo(2), form, "fox 🦊") == encode(photo(2), form, "fox 🦊")


def test_png_is_lossless_and_the_others_are_near() -> None:
    for form in FORMATS:
        shown = Image.open(io.BytesIO(encode(photo(3, 64, 64), form, "")[0])).convert("RGB")
        apart = abs(np.asarray(shown).astype(int) - np.asarray(photo(3, 64, 64)))
        assert apart.max() == 0 if form == "png" else apart.mean() < 3


def test_a_text_that_jpeg_has_no_room_for_is_cut() -> None:
    found = read_parameters(encode(photo(), "jpeg", "🦊" * 40_000)[0])
    assert 10_000 < len(found) < 40_000 and set(found) == {"🦊"}


@pytest.mark.parametrize("form", FORMATS)
def test_half_a_character_does_not_break_the_file(form: OutputFormat) -> None:
    assert read_parameters(encode(photo(), form, "fox \ud83e")[0]) == "fox ?"


def test_a_file_without_parameters_has_none() -> None:
    out = io.BytesIO()
    photo().save(out, "JPEG")
    assert read_parameters(out.getvalue()) == ""


@pytest.mark.parametrize("comment", [300_000_000, 2.5, "a fox", (1, 2)])
def test_a_comment_that_is_no_text_is_none(comment: object) -> None:
    out, exif = io.BytesIO(), Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = comment
    photo().save(out, "JPEG", exif=exif)
    assert read_parameters(out.getvalue()) == ""


def test_a_file_that_was_broken_has_none() -> None:
    assert read_parameters(encode(photo(), "png", "a fox")[0][:20]) == ""


def test_the_parameters_are_in_the_form_that_other_tools_read() -> None:
    text = parameters_text(asked(negative_prompt="blurry"), 42, (64, 48), "sdxl")
    prompt, negative, facts = text.split("\n")
    assert (prompt, negative) == ("a red fox", "Negative prompt: blurry")
    assert facts.startswith(
        "Steps: 30, Sampler: Euler a, CFG scale: 7, Seed: 42, Size: 64x48, Model: sdxl, Version: Darkroom "
    )


def test_the_parameters_name_what_else_was_asked_for_as_readers_know_it() -> None:
    """Web UIs count clip skip from 1, and write a text that has their marks in it as JSON."""
    wish = asked(clip_skip=1, guidance_rescale=0.7, prompt_2="the sea", negative_prompt_2="fog, rain")
    text = parameters_text(wish, 1, (8, 8), "m")
    assert ', Clip skip: 2, CFG rescale: 0.7, Prompt2: the sea, Negative2: "fog, rain", Version' in text
    assert "Clip skip" not in parameters_text(asked(), 1, (8, 8), "m")


def test_parameters_name_strength_for_img2img_alone_and_no_empty_negative_prompt() -> None:
    assert "Denoising strength: 0.6" in parameters_text(asked(), 1, (8, 8), "m", {"Denoising strength": "0.6"})
    assert "strength" not in parameters_text(asked(), 1, (8, 8), "m")
    assert "Negative" not in parameters_text(asked(negative_prompt=""), 1, (8, 8), "m")
