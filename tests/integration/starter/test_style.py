"""The starter model paints in the colours of a picture what a prompt, or another picture, gives the shape of."""

import pytest

from ops.starter.painting import Studio
from ops.starter.style.evaluate import paint, rates, wishes_by_content, wishes_by_prompt


@pytest.fixture(scope="module")
def by_prompt(studio: Studio) -> dict[str, float]:
    wishes = wishes_by_prompt(12)
    return rates(wishes, paint(studio, wishes))


def test_a_prompt_without_colours_is_painted_in_those_of_the_style(by_prompt: dict[str, float]) -> None:
    assert by_prompt["background and colour"] >= 0.75
    assert by_prompt["texture"] >= 0.75
    assert by_prompt["shape"] >= 0.6


def test_a_picture_is_painted_anew_in_the_colours_of_the_style(studio: Studio) -> None:
    wishes = wishes_by_content(10)
    found = rates(wishes, paint(studio, wishes, strength=0.6))
    assert found["background and colour"] >= 0.7
    assert found["shape"] >= 0.6


def test_little_of_a_style_is_less_of_its_colours(studio: Studio, by_prompt: dict[str, float]) -> None:
    wishes = wishes_by_prompt(6)
    assert rates(wishes, paint(studio, wishes, style_scale=0.1))["background and colour"] <= 0.34
