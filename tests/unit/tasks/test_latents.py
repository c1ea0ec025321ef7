"""Requests that keep latents, and those of kinds without prompt, seeds and scheduler."""

import json
from typing import Any

import pytest

from darkroom.tasks import Encode, Img2Img, InvalidRequest, Txt2Img, parse_request
from darkroom.tasks.catalogue import Defaults, ModelOffer
from darkroom.tasks.needs import lean, needs_of
from darkroom.tasks.validate import digest, resolve

PICTURE = "inputs/default/cat.png"
OFFER = ModelOffer(
    name="m",
    family="sd",
    defaults=Defaults(width=512, height=512, num_inference_steps=20, guidance_scale=5.0, scheduler="euler"),
    schedulers=["euler"],
)


def filled(**fields: Any) -> Any:
    return resolve({"model": "m", **fields}, {"m": OFFER}, lambda: None).filled


def codes(**fields: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidRequest) as caught:
        filled(**fields)
    return [(fault.field, fault.code) for fault in caught.value.faults]


def test_pictures_are_what_is_kept_unless_told_otherwise() -> None:
    plain, asked = filled(prompt="a cat", seed=1), filled(prompt="a cat", seed=1, output=["image"])
    assert plain.output == ["image"] and lean(plain) == lean(asked) and "output" not in lean(plain)
    assert needs_of(plain) == () and digest(Txt2Img(prompt="a cat")) == digest(
        Txt2Img(prompt="a cat", output=["image"])
    )


@pytest.mark.parametrize("output", [["latents"], ["image", "latents"], ["latents", "image"]])
def test_what_is_kept_is_a_need_and_its_order_says_nothing(output: list[str]) -> None:
    for request in (
        filled(prompt="a cat", output=output),
        filled(kind="img2img", prompt="a", image=PICTURE, output=output),
    ):
        assert request.output == sorted(output)
        assert needs_of(request) == ("output",)
        assert parse_request(json.loads(json.dumps(lean(request)))) == request


@pytest.mark.parametrize(
    ("output", "code"),
    [
        ([], "too_short"),
        (["image", "image"], "invalid_value"),
        (["picture"], "literal_error"),
        ("latents", "list_type"),
        (None, "list_type"),
    ],
)
def test_what_cannot_be_kept(output: Any, code: str) -> None:
    assert [one[1] for one in codes(prompt="a cat", output=output)] == [code]


def test_encoding_needs_a_picture_alone() -> None:
    request = filled(kind="encode", image=PICTURE)
    assert isinstance(request, Encode)
    assert (request.pieces, request.all_seeds, request.seed_of(0), request.title) == (1, [], 0, PICTURE)
    assert needs_of(request) == ("kind:encode",)
    assert (request.width, request.height) == (None, None)
    assert filled(kind="encode", image=PICTURE, width=64 * 8, height=256).width == 512


@pytest.mark.parametrize(
    ("fields", "faults"),
    [
        ({}, [("image", "missing")]),
        ({"image": PICTURE, "prompt": "a cat"}, [("prompt", "extra_forbidden")]),
        ({"image": PICTURE, "seed": 1}, [("seed", "extra_forbidden")]),
        ({"image": PICTURE, "strength": 0.5}, [("strength", "extra_forbidden")]),
        ({"image": PICTURE, "output_format": "png"}, [("output_format", "extra_forbidden")]),
        ({"image": PICTURE, "output": ["latents"]}, [("output", "extra_forbidden")]),
        ({"image": PICTURE, "width": 512}, [("height", "missing")]),
        ({"image": PICTURE, "width": 4096, "height": 512}, [("width", "out_of_range")]),
        ({"image": "inputs/other/cat.png"}, [("image", "input_forbidden")]),
    ],
)
def test_what_encoding_refuses(fields: dict[str, Any], faults: list[tuple[str, str]]) -> None:
    assert codes(kind="encode", **fields) == faults


def test_img2img_has_its_fields_as_before() -> None:
    request = filled(kind="img2img", prompt="a cat", image=PICTURE, seed=3)
    assert isinstance(request, Img2Img)
    assert (request.strength, request.width, request.output_format, request.title) == (0.6, None, "png", "a cat")
    assert codes(kind="img2img", prompt="a cat", image=PICTURE, width=512) == [("height", "missing")]
    assert codes(kind="img2img", prompt="a", image=PICTURE, width=513, height=512)[0][0] == "width"
