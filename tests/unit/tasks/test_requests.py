"""Requests: what is refused, that all of it is said at once, and what is kept as it was given."""

import json
import math
from typing import Any

import pytest

from darkroom.tasks import Fault, Img2Img, InvalidRequest, Txt2Img, parse_request
from darkroom.tasks.requests import MAX_SEED

PICTURE = "inputs/default/cat.png"


def faults(**fields: Any) -> list[Fault]:
    """What is wrong with a request of these fields; a prompt is given unless it is among them."""
    with pytest.raises(InvalidRequest) as caught:
        parse_request({"prompt": "a cat", **fields})
    return caught.value.faults


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("prompt", "", "invalid_value"),
        ("prompt", " \n\t ", "invalid_value"),
        ("prompt", "x" * 10_001, "string_too_long"),
        ("prompt", "a\x00b", "invalid_value"),
        ("prompt", "a\x1bb", "invalid_value"),
        ("prompt", "a\x85b", "invalid_value"),
        ("prompt", "\ud800", "string_unicode"),
        ("prompt", 5, "string_type"),
        ("prompt", b"bytes", "string_type"),
        ("prompt", None, "string_type"),
        ("negative_prompt", "a\x07b", "invalid_value"),
        ("width", 513, "multiple_of"),
        ("width", "512", "int_type"),
        ("width", 512.0, "int_type"),
        ("width", True, "int_type"),
        ("width", 0, "greater_than_equal"),
        ("height", -8, "greater_than_equal"),
        ("height", 100_000, "less_than_equal"),
        ("num_inference_steps", 0, "greater_than_equal"),
        ("num_inference_steps", 10_000, "less_than_equal"),
        ("num_inference_steps", 10.5, "int_type"),
        ("guidance_scale", math.nan, "finite_number"),
        ("guidance_scale", math.inf, "finite_number"),
        ("guidance_scale", -0.1, "greater_than_equal"),
        ("guidance_scale", 30.1, "less_than_equal"),
        ("guidance_scale", "5", "float_type"),
        ("scheduler", "magic", "invalid_value"),
        ("scheduler", 3, "string_type"),
        ("seed", -1, "greater_than_equal"),
        ("seed", MAX_SEED + 1, "less_than_equal"),
        ("seed", 1.0, "int_type"),
        ("seed", True, "int_type"),
        ("seeds", [], "too_short"),
        ("seeds", (1, 2), "list_type"),
        ("num_images", 0, "greater_than_equal"),
        ("num_images", 257, "less_than_equal"),
        ("output_format", "gif", "literal_error"),
        ("lane", "express", "literal_error"),
        ("batching", "never", "literal_error"),
        ("tenant", "../other", "string_pattern_mismatch"),
        ("tenant", "x\n", "string_pattern_mismatch"),
        ("tenant", "", "string_pattern_mismatch"),
        ("idempotency_key", "", "string_too_short"),
        ("idempotency_key", "k" * 201, "string_too_long"),
        ("idempotency_key", "\ud800", "string_unicode"),
        ("metadata", [1], "dict_type"),
        ("model", "/etc/passwd", "string_pattern_mismatch"),
        ("model", "https://example.com/model", "string_pattern_mismatch"),
        ("image", PICTURE, "extra_forbidden"),
        ("strength", 0.5, "extra_forbidden"),
        ("kind", "inpaint", "unknown_kind"),
        ("kind", ["txt2img"], "unknown_kind"),
        ("wdith", 512, "extra_forbidden"),
    ],
)
def test_one_bad_field(field: str, value: object, code: str) -> None:
    assert [(fault.field, fault.code) for fault in faults(**{field: value})] == [(field, code)]


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("image", "", "string_too_short"),
        ("image", None, "string_type"),
        ("strength", -0.1, "greater_than_equal"),
        ("strength", 1.1, "less_than_equal"),
        ("strength", math.nan, "finite_number"),
    ],
)
def test_one_bad_field_of_img2img(field: str, value: object, code: str) -> None:
    found = faults(**{"kind": "img2img", "image": PICTURE, field: value})
    assert [(fault.field, fault.code) for fault in found] == [(field, code)]


def test_missing_fields_are_named() -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_request({"kind": "img2img"})
    assert [(fault.field, fault.code) for fault in caught.value.faults] == [("prompt", "missing"), ("image", "missing")]


def test_all_faults_are_named_at_once_in_the_order_of_the_fields() -> None:
    found = faults(prompt="", width="512", num_inference_steps=0, guidance_scale=math.nan, seeds=[1, -1], wdith=3)
    named = [fault.field for fault in found]
    assert named == ["prompt", "width", "num_inference_steps", "guidance_scale", "seeds.1", "wdith"]


def test_the_message_names_field_and_reason() -> None:
    (fault,) = faults(prompt="bell\x07")
    assert str(fault) == "prompt: has the control character U+0007 at position 4"
    assert fault.as_dict() == {"field": "prompt", "code": "invalid_value", "message": fault.message}


def test_the_constructor_raises_the_same_error() -> None:
    with pytest.raises(InvalidRequest) as caught:
        Txt2Img(prompt="", width=513)
    assert [fault.field for fault in caught.value.faults] == ["prompt", "width"]


@pytest.mark.parametrize("data", [None, "a cat", 5, [], [("prompt", "a cat")]])
def test_what_is_no_mapping(data: object) -> None:
    with pytest.raises(InvalidRequest, match="mapping"):
        parse_request(data)


def test_names_that_are_no_text() -> None:
    with pytest.raises(InvalidRequest):
        parse_request({"prompt": "a cat", 1: 2})


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"seeds": [1], "num_images": 2}, "1 seeds for 2 images"),
        ({"seeds": [1, 2, 3], "num_images": 2}, "3 seeds for 2 images"),
        ({"seed": 1, "seeds": [1]}, "not both"),
    ],
)
def test_seeds_that_do_not_fit(fields: dict[str, Any], reason: str) -> None:
    (fault,) = faults(**fields)
    assert fault.field == "seeds"
    assert reason in fault.message


def test_seeds_at_the_ends() -> None:
    assert Txt2Img(prompt="a cat", seeds=[0, MAX_SEED]).seeds == [0, MAX_SEED]


@pytest.mark.parametrize("text", ["line one\nline two\ttabbed", "日本の灯台 🗼", "a" * 10_000, "naïve café"])
def test_text_is_kept_as_it_is(text: str) -> None:
    assert Txt2Img(prompt=text, negative_prompt=text).prompt == text


def test_no_negative_prompt_and_an_empty_one_differ() -> None:
    assert Txt2Img(prompt="a cat").negative_prompt is None
    assert Txt2Img(prompt="a cat", negative_prompt="").negative_prompt == ""


@pytest.mark.parametrize("name", ["DPM++ 2M Karras", "dpmpp_2m_karras", "dpm++-2m-karras"])
def test_schedulers_by_the_names_of_the_field(name: str) -> None:
    assert Txt2Img(prompt="a cat", scheduler=name).scheduler == "dpmpp_2m_karras"


@pytest.mark.parametrize(
    "request_",
    [
        Txt2Img(prompt="a cat", seeds=[1, 2], metadata={"a": [1, None, {"b": 2.5}], "é": "ü"}, lane="bulk", tenant="t"),
        Img2Img(prompt="a cat", image=PICTURE, strength=0, guidance_scale=7, idempotency_key="k"),
    ],
)
def test_a_request_survives_json(request_: Txt2Img | Img2Img) -> None:
    assert parse_request(json.loads(json.dumps(request_.model_dump()))) == request_


@pytest.mark.parametrize("metadata", [{"a": {1: "one"}}, {"a": object()}, {"a": b"x"}, {"a": (1, 2)}, {1: 2}])
def test_metadata_that_would_not_come_back_as_it_was(metadata: dict[Any, Any]) -> None:
    assert {fault.field.partition(".")[0] for fault in faults(metadata=metadata)} == {"metadata"}


def test_requests_do_not_change() -> None:
    with pytest.raises(Exception, match="frozen"):
        Txt2Img(prompt="a cat").prompt = "a dog"  # type: ignore[misc]
