"""Requests that keep latents, and those of kinds without prompt, seeds and scheduler."""

import json
from typing import Any

import pytest

from darkroom.tasks import Decode, Encode, Img2Img, InvalidRequest, Txt2Img, parse_request
from darkroom.tasks.catalogue import Defaults, ModelOffer
from darkroom.tasks.needs import lean, needs_of
from darkroom.tasks.requests import KINDS
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
        ({"latents"}, "list_type"),
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


LATENTS = "0197-job/latents-0-0123456789abcdef.safetensors"


def test_decoding_needs_latents_alone() -> None:
    request = filled(kind="decode", image=LATENTS, output_format="webp")
    assert isinstance(request, Decode)
    assert (request.pieces, request.all_seeds, request.title, request.output_format) == (1, [], LATENTS, "webp")
    assert needs_of(request) == ("kind:decode",)
    assert filled(kind="decode", image="inputs/default/my.safetensors").image == "inputs/default/my.safetensors"


@pytest.mark.parametrize("kind", ["decode", "img2img"])
def test_where_latents_may_lie(kind: str) -> None:
    words = {"prompt": "a cat"} if kind == "img2img" else {}
    for image, code in (
        ("inputs/other/my.safetensors", "input_forbidden"),
        ("../my.safetensors", "input_reference_invalid"),
        ("my.safetensors", "input_reference_invalid"),
        ("0197-job/embeds-0-0123456789abcdef.safetensors", "input_not_latents"),
        ("0197-job/embeds-0123456789abcdef.safetensors", "input_not_latents"),
        ("C:/my.safetensors", "input_reference_invalid"),
    ):
        assert codes(kind=kind, image=image, **words) == [("image", code)]
    assert filled(kind=kind, image=LATENTS, **words).image == LATENTS


@pytest.mark.parametrize(
    "image", [PICTURE, "0197-job/0-0123456789abcdef.png", "https://example.com/cat.png", "data:image/png;base64,AA=="]
)
def test_what_is_no_latents_by_its_name_is_not_decoded(image: str) -> None:
    assert codes(kind="decode", image=image) == [("image", "input_reference_invalid")]


@pytest.mark.parametrize("image", [LATENTS, "inputs/default/my.safetensors"])
def test_what_is_no_picture_by_its_name_is_not_encoded(image: str) -> None:
    assert codes(kind="encode", image=image) == [("image", "input_not_an_image")]


@pytest.mark.parametrize("fields", [{"image": LATENTS, "mask": PICTURE}, {"image": PICTURE, "mask": LATENTS}])
def test_inpainting_begins_with_pictures(fields: dict[str, str]) -> None:
    (name,) = (name for name, value in fields.items() if value == LATENTS)
    assert codes(kind="inpaint", prompt="a cat", **fields)[0] == (name, "input_not_an_image")


def test_of_every_input_is_known_whether_it_may_be_latents() -> None:
    for request in KINDS.values():
        assert request.latents.keys() <= set(request.inputs)
