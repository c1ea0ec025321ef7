"""Frames between two ends, as requests."""

from typing import Any

import pytest

from darkroom.tasks.errors import InvalidRequest
from darkroom.tasks.needs import needs_of
from darkroom.tasks.requests import Interpolate
from darkroom.tasks.validate import resolve
from tests.unit.tasks.test_validate import MODEL as SMALL

MODEL = SMALL.model_copy(update={"kinds": ["txt2img", "interpolate"]})


def filled(**fields: Any) -> Interpolate:
    asked = {"kind": "interpolate", "prompt": "a cat", "model": "small", "frames": 3, **fields}
    found = resolve(asked, {"small": MODEL}, lambda: None).filled
    assert isinstance(found, Interpolate)
    return found


def test_frames_have_the_first_seed_and_the_last_one_its_own() -> None:
    assert filled(seed=7, seed_to=9).all_seeds == [7, 7, 9]
    assert filled(seed=7, prompt_to="a dog").all_seeds == [7, 7, 7]
    drawn = filled(prompt_to="a dog")
    assert drawn.all_seeds == [drawn.seed] * 3
    assert (drawn.pieces, needs_of(drawn)) == (3, ("kind:interpolate", "prompt_to"))


@pytest.mark.parametrize(
    ("fields", "field", "code"),
    [
        ({}, "prompt_to", "missing"),
        ({"seed_to": 1, "frames": 1}, "frames", "greater_than_equal"),
        ({"seed_to": 1, "frames": 500}, "frames", "less_than_equal"),
        ({"seed_to": 1, "frames": 65}, "frames", "too_large"),
        ({"seed_to": 1, "num_images": 2}, "num_images", "not_supported"),
        ({"prompt_to": " "}, "prompt_to", "invalid_value"),
        ({"prompt_to": "x" * 1001}, "prompt_to", "too_long"),
    ],
)
def test_what_cannot_be_is_named(fields: dict[str, Any], field: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        filled(**fields)
    assert (field, code) in [(fault.field, fault.code) for fault in caught.value.faults]


def test_a_long_end_is_read_to_its_end() -> None:
    assert filled(prompt_to="x" * 76).long_prompt == "chunk"
    assert filled(prompt_to="x" * 75).long_prompt == "cut"
