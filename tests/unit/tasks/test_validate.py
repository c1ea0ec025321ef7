"""From request to job: defaults, limits of the model, seeds, warnings."""

from typing import Any

import pytest

from darkroom.tasks import Fault, Img2Img, InvalidRequest, Txt2Img
from darkroom.tasks.catalogue import Defaults, FolderSource, Limits, ModelEntry, builtin_catalogue
from darkroom.tasks.fields import MAX_SEED
from darkroom.tasks.sizes import LONGEST_SIDE, source_limits
from darkroom.tasks.validate import MAX_REQUEST_BYTES, Resolved, canonical, digest, resolve

MODEL = ModelEntry(
    name="small",
    family="sdxl",
    source=FolderSource(path="/models/small"),
    defaults=Defaults(width=512, height=384, num_inference_steps=30, guidance_scale=5.0, scheduler="euler"),
    limits=Limits(
        grid=64, min_side=256, max_side=1024, max_pixels=1024 * 512, max_steps=50, max_images=4, max_prompt_chars=1000
    ),
    schedulers=["euler", "ddim"],
    kinds=["txt2img", "img2img"],
)
CATALOGUE = {"small": MODEL}
PICTURE = "inputs/default/cat.png"


def of(**fields: Any) -> Resolved:
    """These fields beside a prompt, resolved for the small model."""
    return resolve({"prompt": "a cat", "model": "small", **fields}, CATALOGUE, lambda: None)


def faults(**fields: Any) -> list[Fault]:
    with pytest.raises(InvalidRequest) as caught:
        of(**fields)
    return caught.value.faults


def test_defaults_come_from_the_catalogue() -> None:
    filled = of().filled
    assert (filled.width, filled.height, filled.num_inference_steps) == (512, 384, 30)
    assert (filled.guidance_scale, filled.scheduler, filled.model) == (5.0, "euler", "small")


def test_what_was_asked_stays() -> None:
    found = of(width=640, height=512, num_inference_steps=1, guidance_scale=0, scheduler="DDIM")
    assert (found.filled.width, found.filled.height, found.filled.guidance_scale) == (640, 512, 0)
    assert (found.filled.num_inference_steps, found.filled.scheduler) == (1, "ddim")
    assert found.asked.seeds is None


def test_img2img_keeps_the_size_of_its_picture() -> None:
    filled = of(kind="img2img", image=PICTURE).filled
    assert isinstance(filled, Img2Img)
    assert (filled.width, filled.height, filled.strength) == (None, None, 0.6)


@pytest.mark.parametrize(
    ("fields", "field", "code"),
    [
        ({"width": 520}, "width", "off_grid"),
        ({"height": 392}, "height", "off_grid"),
        ({"width": 192}, "width", "out_of_range"),
        ({"width": 1088}, "width", "out_of_range"),
        ({"width": 1024, "height": 1024}, "width", "too_many_pixels"),
        ({"num_inference_steps": 51}, "num_inference_steps", "too_large"),
        ({"num_images": 5}, "num_images", "too_large"),
        ({"seeds": [1, 2, 3, 4, 5]}, "num_images", "too_large"),
        ({"prompt": "x" * 1001}, "prompt", "too_long"),
        ({"negative_prompt": "x" * 1001}, "negative_prompt", "too_long"),
        ({"scheduler": "lcm"}, "scheduler", "scheduler_not_supported"),
        ({"model": "other"}, "model", "unknown_model"),
        ({"kind": "img2img", "image": PICTURE, "width": 512}, "height", "missing"),
        ({"kind": "img2img", "image": PICTURE, "height": 512}, "width", "missing"),
    ],
)
def test_limits_of_the_model(fields: dict[str, Any], field: str, code: str) -> None:
    assert [(fault.field, fault.code) for fault in faults(**fields)] == [(field, code)]


@pytest.mark.parametrize(("width", "height"), [(256, 256), (1024, 512), (512, 1024)])
def test_limits_are_allowed_themselves(width: int, height: int) -> None:
    found = of(width=width, height=height, num_inference_steps=50, num_images=4, prompt="x" * 1000)
    assert (found.filled.width, found.filled.height) == (width, height)


def test_a_kind_that_the_model_does_not_do() -> None:
    alone = MODEL.model_copy(update={"kinds": ["txt2img"]})
    with pytest.raises(InvalidRequest) as caught:
        resolve(Img2Img(prompt="a cat", image=PICTURE, model="small"), {"small": alone}, lambda: None)
    assert [fault.code for fault in caught.value.faults] == ["kind_not_supported"]


def test_all_faults_against_the_model_at_once() -> None:
    found = faults(width=520, height=2048, num_inference_steps=51, num_images=5, scheduler="lcm")
    assert {fault.field for fault in found} == {"width", "height", "num_inference_steps", "num_images", "scheduler"}


def test_faults_of_form_and_against_the_model_at_once() -> None:
    found = faults(prompt="", width="512", height=392, num_inference_steps=51)
    assert sorted(fault.field for fault in found) == ["height", "num_inference_steps", "prompt", "width"]
    assert [fault.field for fault in faults(prompt="", model="other")] == ["prompt", "model"]


@pytest.mark.parametrize("name", ["Euler a", "magic", 7])
def test_a_field_is_at_fault_once(name: object) -> None:
    """Both rounds look at it: that of the form, and that of the model."""
    assert sorted(fault.field for fault in faults(scheduler=name, steps=1)) == ["scheduler", "steps"]


def test_a_scheduler_with_fewer_steps_than_the_model_allows() -> None:
    """Whether the steps were asked for or are the model's own."""
    limits, own = MODEL.limits.model_copy(update={"max_steps": 100}), MODEL.defaults
    entry = MODEL.model_copy(update={"limits": limits, "schedulers": ["euler", "lcm"]})
    many = entry.model_copy(update={"defaults": own.model_copy(update={"num_inference_steps": 60})})
    for model, fields in ((entry, {"num_inference_steps": 51}), (many, {})):
        asked = {"prompt": "a cat", "model": "small", "scheduler": "LCM", **fields}
        with pytest.raises(InvalidRequest, match="LCM does at most 50"):
            resolve(asked, {"small": model}, lambda: None)
        assert resolve({**asked, "scheduler": "euler"}, {"small": model}, lambda: None)
        assert resolve({**asked, "num_inference_steps": 50}, {"small": model}, lambda: None)


LARGE = MODEL.model_copy(
    update={
        "defaults": MODEL.defaults.model_copy(update={"width": 16_384, "height": 64}),
        "limits": Limits(min_side=64, max_side=16_384, max_pixels=2**28),
    }
)


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ({"output_format": "webp", "width": 16_384, "height": 64}, False),
        ({"output_format": "webp", "height": 64}, False),
        ({"output_format": "webp", "width": 16_376, "height": 64}, True),
        ({"output_format": "webp", "width": 64, "height": 16_384}, False),
        ({"output_format": "webp", "width": 64, "height": 16_384, "kind": "img2img", "image": PICTURE}, False),
        ({"output_format": "webp", "kind": "img2img", "image": PICTURE}, True),
        ({"output_format": "jpeg", "width": 16_384, "height": 64}, True),
        ({"width": 16_384, "height": 64}, True),
    ],
)
def test_a_size_that_the_format_cannot_hold(fields: dict[str, Any], *, fits: bool) -> None:
    asked = {"prompt": "a cat", "model": "small", **fields}
    if fits:
        assert resolve(asked, {"small": LARGE}, lambda: None)
        return
    with pytest.raises(InvalidRequest, match="webp holds at most 16383 pixels a side, not 16384") as caught:
        resolve(asked, {"small": LARGE}, lambda: None)
    assert [fault.field for fault in caught.value.faults] == ["output_format"]


def test_a_picture_that_keeps_its_size_is_scaled_into_what_the_format_holds() -> None:
    request = Img2Img(prompt="a cat", image=PICTURE, output_format="webp")
    assert source_limits(request.output_format, LARGE.limits).max_side == LONGEST_SIDE["webp"]
    assert source_limits(request.output_format, MODEL.limits) == MODEL.limits
    assert source_limits("png", LARGE.limits) == LARGE.limits


@pytest.mark.parametrize(
    ("change", "field"),
    [({"prompt": 5}, "prompt"), ({"width": 7}, "width"), ({"seeds": [-1]}, "seeds.0")],
)
def test_what_was_changed_in_a_request_is_looked_at(change: dict[str, Any], field: str) -> None:
    request = Txt2Img.model_construct(**{**dict(Txt2Img(prompt="a cat", model="small")), **change})
    with pytest.raises(InvalidRequest) as caught:
        resolve(request, CATALOGUE, lambda: None)
    assert [fault.field for fault in caught.value.faults] == [field]


class Noted(Txt2Img):
    """A user's own class, with a field that no worker knows."""

    note: str


def test_a_field_of_a_users_own_is_a_fault() -> None:
    with pytest.raises(InvalidRequest) as caught:
        resolve(Noted(prompt="a cat", model="small", note="x"), CATALOGUE, lambda: None)
    assert [(fault.field, fault.code) for fault in caught.value.faults] == [("note", "extra_forbidden")]


def test_lists_that_were_changed_in_a_request_are_looked_at() -> None:
    request = Txt2Img(prompt="a cat", model="small", seeds=[1], metadata={"a": 1})
    request.metadata["b"] = float("nan")
    (request.seeds or []).append(-1)
    with pytest.raises(InvalidRequest) as caught:
        resolve(request, CATALOGUE, lambda: None)
    assert [fault.field for fault in caught.value.faults] == ["metadata", "seeds.1"]


def test_the_message_says_what_would_be_right() -> None:
    assert "512 is near" in faults(width=520)[0].message
    assert "euler, ddim" in faults(scheduler="lcm")[0].message
    assert "small" in faults(model="other")[0].message


def test_the_default_model_is_asked_for_only_when_none_is_named() -> None:
    def never() -> str:
        raise AssertionError

    assert resolve(Txt2Img(prompt="a cat", model="small"), CATALOGUE, never).offer is MODEL
    assert resolve(Txt2Img(prompt="a cat"), CATALOGUE, lambda: "small").filled.model == "small"


def test_no_model_to_be_had() -> None:
    with pytest.raises(InvalidRequest) as caught:
        resolve(Txt2Img(prompt="a cat"), CATALOGUE, lambda: None)
    assert [(fault.field, fault.code) for fault in caught.value.faults] == [("model", "missing")]


def test_one_seed_per_image() -> None:
    seeds = of(num_images=3).filled.seeds or []
    assert len(set(seeds)) == 3
    assert all(0 <= seed <= MAX_SEED for seed in seeds)


@pytest.mark.parametrize(
    ("fields", "seeds"),
    [
        ({"seed": 7}, [7]),
        ({"seed": 7, "num_images": 3}, [7, 8, 9]),
        ({"seed": MAX_SEED, "num_images": 2}, [MAX_SEED, 0]),
        ({"seeds": [5, 5]}, [5, 5]),
    ],
)
def test_seeds_that_were_asked_for(fields: dict[str, Any], seeds: list[int]) -> None:
    filled = of(**fields).filled
    assert (filled.seeds, filled.seed, filled.num_images) == (seeds, None, len(seeds))


def test_a_resolved_request_resolves_to_itself() -> None:
    filled = of(seed=1, num_images=2).filled
    assert resolve(filled, CATALOGUE, lambda: None).filled == filled


def test_a_request_of_more_than_256_kb() -> None:
    with pytest.raises(InvalidRequest) as caught:
        canonical(Txt2Img(prompt="a cat", metadata={"a": "x" * MAX_REQUEST_BYTES}))
    assert [(fault.field, fault.code) for fault in caught.value.faults] == [("request", "request_too_large")]
    assert canonical(Txt2Img(prompt="a cat", metadata={"a": "x" * (MAX_REQUEST_BYTES - 1000)}))


def nested(depth: int) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for _ in range(depth):
        tree = {"a": tree}
    return tree


@pytest.mark.parametrize("value", [float("nan"), float("inf"), nested(2000)])
def test_metadata_that_json_cannot_hold(value: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        canonical(Txt2Img(prompt="a cat", metadata={"a": value}))  # type: ignore[dict-item]
    assert {fault.field.partition(".")[0] for fault in caught.value.faults} == {"metadata"}


def test_the_digest_tells_requests_apart() -> None:
    one = digest(Txt2Img(prompt="a cat", metadata={"a": 1, "b": 2}))
    assert one == digest(Txt2Img(metadata={"b": 2, "a": 1}, prompt="a cat", output_format="png", width=None))
    others = [{"prompt": "a dog"}, {"seed": 0}, {"negative_prompt": ""}, {"metadata": {"a": 1}}, {"lane": "bulk"}]
    for change in others:
        assert one != digest(Txt2Img(**{"prompt": "a cat", "metadata": {"a": 1, "b": 2}, **change}))


def test_a_prompt_that_is_certainly_cut_is_said() -> None:
    entry = builtin_catalogue()["sdxl"]
    assert list(Txt2Img(prompt="fox " * 75).warnings(entry)) == []
    assert list(Txt2Img(prompt="fox " * 76).warnings(entry)) == ["prompt_truncated"]
    assert list(Txt2Img(prompt="fox", negative_prompt="fox " * 76).warnings(entry)) == ["prompt_truncated"]
    assert list(Txt2Img(prompt="e\u0301" * 400 + "?!_-" * 100).warnings(entry)) == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"guidance_scale": 1}, ["negative_prompt_ignored"]),
        ({"guidance_scale": 0.5}, ["negative_prompt_ignored"]),
        ({"guidance_scale": 1.1}, []),
        ({}, []),
        ({"guidance_scale": 1, "negative_prompt": ""}, []),
        ({"guidance_scale": 1, "negative_prompt": "fox " * 76}, ["negative_prompt_ignored"]),
    ],
)
def test_a_negative_prompt_that_has_no_say(fields: dict[str, Any], said: list[str]) -> None:
    request = Txt2Img(**{"prompt": "fox", "negative_prompt": "blurry", **fields})
    assert list(request.warnings(builtin_catalogue()["sdxl"])) == said
