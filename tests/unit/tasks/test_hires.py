"""A second pass as it is asked for: its limits, its defaults, its size."""

from typing import Any

import pytest

from darkroom.tasks import Hires, Img2Img, Inpaint, InvalidRequest, Txt2Img, parse_request
from darkroom.tasks.catalogue import Limits, ModelOffer, builtin_catalogue
from darkroom.tasks.needs import lean, needs_of
from darkroom.tasks.requests import JobRequest
from darkroom.tasks.sizes import before_enlargement, enlarged, source_limits
from darkroom.tasks.validate import digest, resolve

SDXL = builtin_catalogue()["sdxl"].offer()
KEY = "inputs/default/a.png"


def offer(**limits: Any) -> ModelOffer:
    return SDXL.model_copy(update={"limits": SDXL.limits.model_copy(update=limits)})


def found(request: JobRequest | dict[str, Any], of: ModelOffer = SDXL) -> list[tuple[str, str]]:
    asked = (
        {"model": of.name, **request} if isinstance(request, dict) else request.model_copy(update={"model": of.name})
    )
    try:
        resolve(asked, {of.name: of}, lambda: None)
    except InvalidRequest as error:
        return [(fault.field, fault.code) for fault in error.faults]
    return []


def txt2img(**hires: Any) -> Txt2Img:
    return Txt2Img(prompt="a", hires=Hires(**hires))


@pytest.mark.parametrize(
    ("request_", "of", "fault"),
    [
        (txt2img(scale=1.5), SDXL, []),
        (txt2img(scale=2.0), SDXL, [("hires.scale", "too_many_pixels")]),
        (txt2img(scale=2.5), SDXL, [("hires.scale", "too_large")]),
        (Txt2Img(prompt="a", width=1536, height=512, hires=Hires(scale=1.4)), SDXL, [("hires.scale", "too_large")]),
        (Txt2Img(prompt="a", width=1536, height=512, hires=Hires(scale=4 / 3)), SDXL, []),
        (Img2Img(prompt="a", image=KEY, hires=Hires(scale=4)), SDXL, []),
        (Img2Img(prompt="a", image=KEY, hires=Hires(scale=4)), offer(min_side=520), [("hires.scale", "too_large")]),
        (
            Img2Img(prompt="a", image=KEY, hires=Hires(scale=4)),
            offer(max_pixels=1000 * 1000),
            [("hires.scale", "too_many_pixels")],
        ),
        (
            Img2Img(prompt="a", image=KEY, width=1024, height=1024, hires=Hires(scale=3)),
            SDXL,
            [("hires.scale", "too_large")],
        ),
        (
            Txt2Img(prompt="a", width=8192, height=512, output_format="webp", hires=Hires(scale=2)),
            offer(max_side=16_384, max_pixels=2**40),
            [("hires.scale", "too_large")],
        ),
        (
            Txt2Img(prompt="a", width=8192, height=512, hires=Hires(scale=2)),
            offer(max_side=16_384, max_pixels=2**40),
            [],
        ),
        (txt2img(steps=201), SDXL, [("hires.steps", "too_large")]),
        (
            Txt2Img(prompt="a", scheduler="ddim", num_inference_steps=50, hires=Hires(steps=995)),
            offer(max_steps=1000),
            [("hires.steps", "too_large")],
        ),
    ],
)
def test_beyond_the_limits_is_refused_at_submit(
    request_: JobRequest, of: ModelOffer, fault: list[tuple[str, str]]
) -> None:
    assert found(request_, of) == fault


@pytest.mark.parametrize(
    ("hires", "field"),
    [
        ({"scale": 1}, "hires.scale"),
        ({"scale": 4.1}, "hires.scale"),
        ({"scale": float("nan")}, "hires.scale"),
        ({"scale": "2"}, "hires.scale"),
        ({"strength": 1.1}, "hires.strength"),
        ({"steps": 0}, "hires.steps"),
        ({"upscale": "esrgan"}, "hires.upscale"),
        ({"factor": 2}, "hires.factor"),
        ("2", "hires"),
    ],
)
def test_what_cannot_be_is_named_with_its_place(hires: Any, field: str) -> None:
    assert [fault for fault, _ in found({"prompt": "a", "hires": hires})] == [field]


def test_faults_of_form_and_of_the_second_pass_are_named_together() -> None:
    assert {field for field, _ in found({"prompt": "", "hires": {"scale": 3.0}})} == {"prompt", "hires.scale"}


def test_a_second_pass_has_no_guidance_rescale_in_sd() -> None:
    asked = {"prompt": "a", "guidance_rescale": 0.7, "width": 512, "height": 512}
    sd = builtin_catalogue()["sd-1.5"].offer()
    assert found(asked, sd) == []
    assert found({**asked, "hires": {"scale": 1.5}}, sd) == [("guidance_rescale", "not_supported")]
    assert found({**asked, "hires": {"scale": 1.5}}, SDXL) == []


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("hires", {}, "a second pass would make it anew"),
        ("refiner", {"model": "sdxl-refiner"}, "blended in after each step"),
        ("denoising_end", 0.8, "blended in after each step"),
    ],
)
def test_inpainting_has_no_passes_and_says_why(field: str, value: Any, reason: str) -> None:
    asked = {"kind": "inpaint", "prompt": "a", "image": KEY, "mask": KEY, field: value}
    for ask in (parse_request, lambda fields: Inpaint(**fields)):
        with pytest.raises(InvalidRequest, match=reason) as caught:
            ask(asked)
        assert [(fault.field, fault.code) for fault in caught.value.faults] == [(field, "not_supported")]


def test_a_changed_second_pass_is_looked_at_again() -> None:
    request = txt2img().model_copy(update={"hires": Hires().model_copy(update={"scale": 40.0})})
    assert found(request) == [("hires.scale", "less_than_equal")]


@pytest.mark.parametrize(("steps", "filled"), [(None, 7), (30, 30)])
def test_its_steps_are_those_of_the_job_unless_asked_for(steps: int | None, filled: int) -> None:
    request = Txt2Img(model="sdxl", prompt="a", num_inference_steps=7, hires=Hires(steps=steps))
    decided = resolve(request, {"sdxl": SDXL}, lambda: None).filled.hires
    assert decided == Hires(scale=1.5, strength=0.5, steps=filled)
    assert resolve(txt2img().model_copy(update={"model": "sdxl"}), {"sdxl": SDXL}, lambda: None).filled.hires == Hires(
        steps=SDXL.defaults.num_inference_steps
    )


def test_who_asks_for_none_writes_and_needs_what_was_before() -> None:
    plain, asked = Txt2Img(prompt="a"), txt2img()
    assert "hires" not in lean(plain) and needs_of(plain) == ()
    assert needs_of(asked) == ("hires",)
    assert digest(plain) != digest(asked)


@pytest.mark.parametrize(
    ("size", "scale", "result"),
    [((1024, 1024), 1.5, (1536, 1536)), ((768, 1344), 1.3, (992, 1744)), ((40, 80), 1.4, (56, 112))],
)
def test_the_result_is_rounded_down_to_the_grid(size: tuple[int, int], scale: float, result: tuple[int, int]) -> None:
    assert enlarged(*size, scale, SDXL.limits) == result
    request = Txt2Img(prompt="a", width=size[0], height=size[1], hires=Hires(scale=scale))
    assert request.result_size(SDXL) == result
    assert enlarged(100, 100, 1.5, Limits(grid=64)) == (128, 128)


@pytest.mark.parametrize("scale", [1.01, 1.5, 1.7, 2.0, 3.3, 4.0])
@pytest.mark.parametrize("limits", [Limits(), Limits(grid=64, min_side=64), Limits(min_side=64, max_side=512)])
def test_what_fits_before_fits_after(scale: float, limits: Limits) -> None:
    before = before_enlargement(scale, source_limits("webp", limits))
    side = before.max_side // limits.grid * limits.grid
    assert max(enlarged(side, side, scale, limits)) <= limits.max_side
    down = before.max_pixels // side // limits.grid * limits.grid
    across, down = enlarged(side, down, scale, limits)
    assert across * down <= limits.max_pixels


def test_of_a_picture_without_a_size_nobody_knows_it() -> None:
    assert Img2Img(prompt="a", image=KEY, hires=Hires()).result_size(SDXL) == (0, 0)
