"""Requests: what is refused, that all of it is said at once, and what is kept as it was given."""

import json
import math
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from darkroom.tasks import Fault, Img2Img, Inpaint, InvalidRequest, Txt2Img, parse_request
from darkroom.tasks.fields import MAX_SEED
from darkroom.tasks.validate import canonical, digest

PICTURE = "inputs/default/cat.png"


def nested(levels: int) -> list[Any]:
    """Lists in a list, `levels` deep in all."""
    found: list[Any] = []
    for _ in range(levels - 1):
        found = [found]
    return found


def circle() -> dict[str, Any]:
    """Metadata that contains itself."""
    found: dict[str, Any] = {}
    found["again"] = [found, found]
    return found


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
        ("prompt", None, "missing"),
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
        ("seeds", {1, 2}, "list_type"),
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
        ("metadata", "{bad", "dict_type"),
        ("metadata", {"\ud800": 1}, "not_json"),
        ("metadata", {"a": ["\ud800"]}, "not_json"),
        ("metadata", {"a": math.nan}, "not_json"),
        ("metadata", {"a": -math.inf}, "not_json"),
        ("metadata", {"a": 10**5000}, "not_json"),
        ("metadata", {"a": nested(50)}, "too_deep"),
        ("metadata", circle(), "too_deep"),
        ("width", 10**400, "less_than_equal"),
        ("guidance_scale", 10**400, "float_type"),
        ("guidance_scale", True, "float_type"),
        ("num_images", True, "int_type"),
        ("start_by", 5, "invalid_time"),
        ("start_by", 1.5e9, "invalid_time"),
        ("start_by", "1700000000", "invalid_time"),
        ("start_by", True, "invalid_time"),
        ("start_by", "tomorrow", "invalid_time"),
        ("start_by", "", "invalid_time"),
        ("start_by", "2030-01-31", "invalid_time"),
        ("start_by", "2030-01-31T18:00:00", "invalid_time"),
        ("start_by", "2030-02-30T18:00:00Z", "invalid_time"),
        ("start_by", "\ud800", "invalid_time"),
        ("start_by", datetime(2030, 1, 31), "invalid_time"),
        ("start_by", date(2030, 1, 31), "invalid_time"),
        ("finish_by", "9999-12-31T23:59:59-01:00", "invalid_time"),
        ("model", "/etc/passwd", "string_pattern_mismatch"),
        ("model", "https://example.com/model", "string_pattern_mismatch"),
        ("image", PICTURE, "extra_forbidden"),
        ("strength", 0.5, "extra_forbidden"),
        ("kind", "animate", "unknown_kind"),
        ("kind", ["txt2img"], "unknown_kind"),
        ("wdith", 512, "extra_forbidden"),
        ("x" * 1000, 512, "extra_forbidden"),
    ],
)
def test_one_bad_field(field: str, value: object, code: str) -> None:
    assert [(fault.field, fault.code) for fault in faults(**{field: value})] == [(field[:100], code)]


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("image", "", "input_reference_invalid"),
        ("image", "\ud800", "invalid_value"),
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
    assert named == ["prompt", "guidance_scale", "width", "num_inference_steps", "seeds.1", "wdith"]


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


@pytest.mark.parametrize(
    "metadata", [{"a": nested(49)}, {"é": "日本\u2028"}, {"a": 10**4000}, {"a": 1e-320}, {"": None}]
)
def test_metadata_comes_back_untouched(metadata: dict[str, Any]) -> None:
    sent = canonical(Txt2Img(prompt="a cat", metadata=metadata))
    assert parse_request(json.loads(sent)).metadata == metadata


def test_the_same_part_twice_is_no_circle() -> None:
    part = {"b": [1]}
    assert Txt2Img(prompt="a", metadata={"x": part, "y": [part, part]}).metadata["y"] == [part, part]


@pytest.mark.parametrize(
    "written",
    [
        "2030-01-31T18:00:00Z",
        "2030-01-31T18:00Z",
        "2030-01-31 19:00:00+01:00",
        "2030-01-31T12:30:00.000-05:30",
        "2030-01-31T19:00:30+01:00:30",
        "20300131T180000Z",
        datetime(2030, 1, 31, 18, tzinfo=UTC),
        datetime(2030, 1, 31, 19, 0, 30, tzinfo=timezone(timedelta(hours=1, seconds=30))),
    ],
)
def test_a_time_is_kept_in_utc(written: str | datetime) -> None:
    """Not with its own offset: JSON has no seconds in offsets."""
    request = parse_request({"prompt": "a", "start_by": written})
    assert request.start_by == datetime(2030, 1, 31, 18, tzinfo=UTC)
    assert json.loads(canonical(request))["start_by"] == "2030-01-31T18:00:00Z"
    assert parse_request(json.loads(canonical(request))) == request


def test_an_end_before_the_start() -> None:
    (fault,) = faults(start_by="2030-01-31T18:00:00Z", finish_by="2030-01-31T18:59:59+01:00")
    assert (fault.field, fault.message) == ("finish_by", "is before start_by")
    at_once = {"start_by": "2030-01-31T18:00:00Z", "finish_by": "2030-01-31T19:00:00+01:00"}
    assert Txt2Img(prompt="a", **at_once).finish_by  # type: ignore[arg-type]


def test_a_fault_can_be_printed_whatever_the_field_is_called() -> None:
    for field in ("\ud800", "x\n" * 500, "é"):
        for fault in faults(**{field: 1}, metadata={"a": [field, object()]}):
            assert json.dumps(fault.as_dict(), ensure_ascii=False).encode()
            assert len(fault.field) <= 100


def test_requests_do_not_change() -> None:
    with pytest.raises(Exception, match="frozen"):
        Txt2Img(prompt="a cat").prompt = "a dog"  # type: ignore[misc]


SEQUENCES: list[tuple[type[Txt2Img | Inpaint], str, Any, list[Any]]] = [
    (Txt2Img, "original_size", (128, 64), [128, 64]),
    (Txt2Img, "crop", (0, 64), [0, 64]),
    (Txt2Img, "target_size", range(1, 3), [1, 2]),
    (Txt2Img, "seeds", range(2), [0, 1]),
    (Txt2Img, "output", ("latents", "image"), ["image", "latents"]),
    (Txt2Img, "output", "latents", ["latents"]),
    (Inpaint, "work_size", (1024, 768), [1024, 768]),
]


@pytest.mark.parametrize(("kind", "field", "given", "kept"), SEQUENCES)
def test_any_sequence_is_the_list_that_json_has(
    kind: type[Txt2Img | Inpaint], field: str, given: Any, kept: list[Any]
) -> None:
    more = {} if kind is Txt2Img else {"image": PICTURE}
    made, plain = (kind(prompt="a", **more, **{field: value}) for value in (given, kept))
    assert getattr(made, field) == kept
    assert (canonical(made), digest(made)) == (canonical(plain), digest(plain))


@pytest.mark.parametrize(
    ("field", "given"),
    [("crop", "00"), ("crop", b"00"), ("crop", {0, 1}), ("crop", (0.0, 1)), ("seeds", range(10**12)), ("seeds", ())],
)
def test_a_text_is_no_sequence_and_items_are_as_strict_as_before(field: str, given: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Txt2Img(prompt="a", **{field: given})
    assert {fault.field.partition(".")[0] for fault in caught.value.faults} == {field}


def test_json_has_lists_alone() -> None:
    with pytest.raises(ValidationError):
        Txt2Img.model_validate_json('{"prompt": "a", "output": "latents"}')


def test_an_unknown_kind_is_told_of_with_those_that_there_are() -> None:
    with pytest.raises(InvalidRequest, match="kind: is no kind of job; there are: txt2img, img2img, inpaint, "):
        parse_request({"kind": "outpaint", "prompt": "a"})
    with pytest.raises(InvalidRequest, match="kind: a request is a mapping"):
        parse_request(["a"])
