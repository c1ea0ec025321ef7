"""Requests for pictures in the style of others."""

from typing import Any

import pytest

from darkroom.tasks import InvalidRequest
from darkroom.tasks.needs import abilities, lean, needs_of
from darkroom.tasks.requests import Style, Stylize, parse_request
from darkroom.tasks.validate import resolve
from tests.unit.tasks.test_validate import MODEL as SMALL

KEY, OTHER = "inputs/default/0-0000000000000000.png", "inputs/default/1-0000000000000000.png"
MODEL = SMALL.model_copy(update={"kinds": ["txt2img", "img2img", "stylize"]})


def filled(**fields: Any) -> Any:
    asked = {"kind": "stylize", "prompt": "a star", "styles": [{"image": KEY}], "model": "small", **fields}
    return resolve(asked, {"small": MODEL}, lambda: None).filled


def faults(**fields: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidRequest) as caught:
        filled(**fields)
    return [(fault.field, fault.code) for fault in caught.value.faults]


def test_without_a_picture_it_is_filled_as_txt2img_and_with_one_as_img2img() -> None:
    plain, over = filled(), filled(image=OTHER)
    defaults = MODEL.defaults
    assert (plain.width, plain.height, plain.strength) == (defaults.width, defaults.height, None)
    assert (over.width, over.height, over.strength) == (None, None, defaults.strength)
    assert filled(width=256).height == defaults.height
    assert plain.references == {"styles.0.image": KEY}
    assert over.references == {"image": OTHER, "styles.0.image": KEY}


def test_pictures_are_written_in_several_ways() -> None:
    whole = [Style(image=KEY, weight=2.0), Style(image=OTHER)]
    assert Stylize(prompt="a", styles=[f"{KEY}:2", OTHER]).styles == whole  # type: ignore[list-item]
    assert Stylize(prompt="a", styles=whole[0]).styles == whole[:1]  # type: ignore[arg-type]
    assert Stylize(prompt="a", styles="https://a.example:8080/b.png").styles[0].weight == 1  # type: ignore[arg-type]
    again = parse_request(lean(Stylize(prompt="a", styles=whole)))
    assert again.styles == whole  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"styles": []}, [("styles", "too_short")]),
        ({"styles": None}, [("styles", "list_type")]),
        ({"styles": [{"image": KEY}] * 5}, [("styles", "too_long")]),
        ({"styles": [{}]}, [("styles.0.image", "missing")]),
        ({"styles": [{"image": KEY, "weight": 0}]}, [("styles.0.weight", "greater_than")]),
        ({"styles": [{"image": KEY, "weight": float("nan")}]}, [("styles.0.weight", "finite_number")]),
        ({"styles": [{"image": KEY}, {"image": KEY, "weight": 1e9}]}, [("styles.1.weight", "less_than_equal")]),
        ({"styles": [{"image": KEY, "wieght": 1}]}, [("styles.0.wieght", "extra_forbidden")]),
        (
            {"styles": [{"image": "inputs/alice/0-0000000000000000.png"}, {"image": KEY}, {"image": "/etc/passwd"}]},
            [("styles.0.image", "input_forbidden"), ("styles.2.image", "input_reference_invalid")],
        ),
        (
            {"styles": [{"image": "0/latents-0-0000000000000000.safetensors"}]},
            [("styles.0.image", "input_not_an_image")],
        ),
        ({"style_scale": 3}, [("style_scale", "less_than_equal")]),
        ({"style_scale": 0}, [("style_scale", "no_style")]),
        ({"strength": 0.5}, [("strength", "without_image")]),
        ({"image": OTHER, "width": 256}, [("height", "missing")]),
        ({"denoising_start": 0.5}, [("denoising_start", "without_latents")]),
    ],
)
def test_what_cannot_be_is_named_by_its_place(fields: dict[str, Any], found: list[tuple[str, str]]) -> None:
    assert sorted(faults(**fields)) == sorted(found)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (f"{KEY}:nan", "is 'nan', where a number above 0, to 10, belongs"),
        (f"{KEY}:abc", "is 'abc', where a number above 0, to 10, belongs"),
        (f"{KEY}:", "is '', where a number above 0, to 10, belongs"),
        (f"{KEY}:1.2.3", "is '1.2.3', where a number above 0, to 10, belongs"),
        (f"{KEY}:0,5", "is '0,5', where a number above 0, to 10, belongs; decimals have a point, as in 0.5"),
        (f"{KEY}:-1", "input should be greater than 0"),
    ],
)
def test_what_is_no_weight_is_quoted(written: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        filled(styles=[written])
    assert [(fault.field, fault.message) for fault in caught.value.faults] == [("styles.0.weight", said)]


def test_without_a_pictures_name_only_numbers_are_weights() -> None:
    """Of a URL what is behind its colon is its own."""
    assert Stylize(prompt="a", styles="https://a.example/b?c=d:e").styles[0].weight == 1  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="'inf', where a number"):
        Stylize(prompt="a", styles="https://a.example/b:inf")  # type: ignore[arg-type]


def test_a_kept_request_is_read_whoever_its_pictures_are_of() -> None:
    foreign = {"kind": "stylize", "prompt": "a", "styles": [{"image": "inputs/alice/0-0000000000000000.png"}]}
    assert parse_request(foreign, kept=True).references == {"styles.0.image": foreign["styles"][0]["image"]}  # type: ignore[index]


def test_it_goes_to_workers_that_know_it() -> None:
    needs = needs_of(filled(style_scale=0.5))
    assert needs == ("kind:stylize", "style_scale")
    assert set(needs) <= abilities([Stylize])
    with pytest.raises(InvalidRequest, match="small does txt2img"):
        resolve({"kind": "stylize", "prompt": "a", "styles": [KEY], "model": "small"}, {"small": SMALL}, lambda: None)
