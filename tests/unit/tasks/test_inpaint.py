"""Requests for inpainting: what goes together, what is filled in, and what a job of them needs."""

import json
from typing import Any

import pytest

from darkroom.tasks import Extend, Fault, Inpaint, InvalidRequest
from darkroom.tasks.catalogue import Defaults, FolderSource, Limits, ModelEntry
from darkroom.tasks.needs import abilities, needs_of
from darkroom.tasks.requests import parse_request
from darkroom.tasks.validate import Resolved, canonical, resolve

MODEL = ModelEntry(
    name="small",
    family="sdxl",
    source=FolderSource(path="/models/small"),
    defaults=Defaults(width=512, height=384, num_inference_steps=30, guidance_scale=5.0, scheduler="euler"),
    limits=Limits(grid=64, min_side=256, max_side=1024, max_pixels=1024 * 512),
    schedulers=["euler"],
)
IMAGE, MASK = "inputs/default/cat.png", "inputs/default/mask.png"


def of(**fields: Any) -> Resolved:
    asked = {"kind": "inpaint", "prompt": "a hat", "image": IMAGE, **fields}
    return resolve(asked, {"small": MODEL}, lambda: "small")


def faults(**fields: Any) -> list[Fault]:
    with pytest.raises(InvalidRequest) as caught:
        of(**fields)
    return caught.value.faults


def test_what_is_left_out_is_filled_in() -> None:
    """What is masked is made anew, in a result of the picture's size."""
    filled = of(mask=MASK).filled
    assert isinstance(filled, Inpaint)
    assert (filled.strength, filled.width, filled.height, filled.num_inference_steps) == (1.0, None, None, 30)
    assert (filled.mask_blur, filled.preserve_unmasked, filled.padding, filled.work_size) == (8, True, None, None)


def test_a_part_is_worked_at_the_models_size_unless_said_otherwise() -> None:
    for asked, found in (({}, [512, 384]), ({"work_size": [256, 320]}, [256, 320])):
        filled = of(mask=MASK, padding=32, **asked).filled
        assert isinstance(filled, Inpaint)
        assert filled.work_size == found


@pytest.mark.parametrize(
    ("fields", "field", "code"),
    [
        ({}, "mask", "missing"),
        ({"extend": {"left": 64}, "mask_channel": "alpha"}, "mask_channel", "without_mask"),
        ({"mask": MASK, "padding": 8, "preserve_unmasked": False}, "padding", "not_preserved"),
        ({"mask": MASK, "work_size": [512, 512]}, "work_size", "without_padding"),
        ({"mask": MASK, "padding": 8, "work_size": [512, 192]}, "work_size", "out_of_range"),
        ({"mask": MASK, "padding": 8, "work_size": [520, 512]}, "work_size", "off_grid"),
        ({"mask": MASK, "padding": 8, "work_size": [512]}, "work_size", "too_short"),
        ({"mask": MASK, "width": 512}, "height", "missing"),
        ({"mask": MASK, "width": 520, "height": 512}, "width", "off_grid"),
        ({"extend": {"left": 256, "right": 256}, "width": 512, "height": 512}, "extend", "too_large"),
        ({"extend": {"top": 512}, "width": 512, "height": 512}, "extend", "too_large"),
        ({"extend": {"left": 1000, "right": 25}}, "extend", "too_large"),
        ({"extend": {"top": 1025}}, "extend", "too_large"),
        ({"extend": {}}, "extend", "invalid_value"),
        ({"extend": {"left": -1}}, "extend.left", "greater_than_equal"),
        ({"extend": {"left": 1.5}}, "extend.left", "int_type"),
        ({"extend": {"front": 1}}, "extend.front", "extra_forbidden"),
        ({"extend": [1, 2, 3, 4]}, "extend", "model_type"),
        ({"mask": "inputs/bob/mask.png"}, "mask", "input_forbidden"),
        ({"mask": "mask.png"}, "mask", "input_reference_invalid"),
        ({"mask": "data:image/png;base64,YWJj"}, "mask", "input_not_an_image"),
        ({"mask": "job-1/latents-0-0123456789abcdef.safetensors"}, "mask", "input_not_an_image"),
        ({"mask": MASK, "mask_channel": "red"}, "mask_channel", "literal_error"),
        ({"mask": MASK, "mask_blur": 65}, "mask_blur", "less_than_equal"),
        ({"mask": MASK, "padding": -1}, "padding", "greater_than_equal"),
    ],
)
def test_faults(fields: dict[str, Any], field: str, code: str) -> None:
    assert [(fault.field, fault.code) for fault in faults(**fields)] == [(field, code)]


def test_all_faults_are_named_at_once() -> None:
    found = faults(strength=2.0, mask_blur=-1, extend={"left": "x"})
    assert {fault.field for fault in found} == {"strength", "mask_blur", "extend.left"}


def test_an_extension_that_may_fit_is_left_to_the_worker() -> None:
    assert isinstance(of(extend={"left": 600, "right": 400}).filled, Inpaint)
    assert isinstance(of(extend={"left": 200, "right": 200}, width=512, height=512).filled, Inpaint)


def test_it_comes_back_from_json_as_it_was() -> None:
    filled = of(mask=MASK, padding=3, extend=Extend(left=8, bottom=1), mask_channel="alpha").filled
    again = parse_request(json.loads(canonical(filled)))
    assert again == filled and isinstance(again, Inpaint)
    assert again.extend == Extend(left=8, bottom=1)
    assert again.references == {"image": IMAGE, "mask": MASK}


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({"mask": MASK}, ("kind:inpaint", "mask")),
        ({"extend": {"left": 8}}, ("extend", "kind:inpaint")),
        ({"mask": MASK, "padding": 0}, ("kind:inpaint", "mask", "padding", "work_size")),
    ],
)
def test_what_a_job_of_it_needs(fields: dict[str, Any], needs: tuple[str, ...]) -> None:
    filled = of(**fields).filled
    assert needs_of(filled) == needs
    assert set(needs) <= abilities([Inpaint])


def test_a_model_that_does_nothing_else_says_so() -> None:
    only = MODEL.model_copy(update={"kinds": ["inpaint"]})
    with pytest.raises(InvalidRequest) as caught:
        resolve({"prompt": "a cat"}, {"small": only}, lambda: "small")
    assert [(fault.field, fault.message) for fault in caught.value.faults] == [("kind", "small does inpaint")]
