"""Denoising that is cut: by whom, where, and where not."""

from collections.abc import Mapping
from typing import Any

import pytest

from darkroom.tasks import InvalidRequest
from darkroom.tasks.catalogue import ModelOffer, builtin_catalogue
from darkroom.tasks.needs import further_models, needs_of
from darkroom.tasks.validate import resolve

CATALOGUE: dict[str, ModelOffer] = dict(builtin_catalogue())
SDXL = CATALOGUE["sdxl"]
KEY = "inputs/default/a.png"
EMBEDS = "job-1/embeddings-0-0123456789abcdef.safetensors"
LATENTS = "job-1/latents-0-0123456789abcdef.safetensors"


def found(catalogue: Mapping[str, ModelOffer] = CATALOGUE, **fields: Any) -> list[tuple[str, str]]:
    kind = {"kind": "img2img"} if "image" in fields else {}
    try:
        resolve({"prompt": "a", "model": "sdxl", **kind, **fields}, catalogue, lambda: None)
    except InvalidRequest as error:
        return [(fault.field, fault.code) for fault in error.faults]
    return []


def by(model: str = "sdxl-refiner", start: float = 0.8) -> dict[str, object]:
    return {"model": model, "start": start}


def with_refiner(**changes: Any) -> dict[str, ModelOffer]:
    refiner = CATALOGUE["sdxl-refiner"]
    limits = {name: changes.pop(name) for name in [*changes] if name in type(refiner.limits).model_fields}
    offer = refiner.model_copy(update={"limits": refiner.limits.model_copy(update=limits), **changes})
    return {**CATALOGUE, offer.name: offer}


@pytest.mark.parametrize(
    "fields",
    [
        {"refiner": by()},
        {"refiner": by(), "hires": {"scale": 1.5, "model": "sdxl-refiner"}},
        {"refiner": by(), "image": KEY, "strength": 0.5},
        {"denoising_end": 0.8, "output": ["latents"]},
        {"denoising_end": 0.8, "output": ["latents"], "image": KEY, "strength": 0.5},
        {"hires": {"model": "sdxl-refiner"}},
        {"image": LATENTS, "denoising_start": 0.8},
        {"image": LATENTS, "denoising_start": 0.2, "denoising_end": 0.8, "output": ["latents"]},
        {"image": LATENTS, "denoising_start": 0.2, "refiner": by()},
        {"image": LATENTS, "denoising_start": 0.8, "hires": {}},
    ],
)
def test_what_can_be(fields: dict[str, Any]) -> None:
    assert found(**fields) == []


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"refiner": by("nowhere")}, ("refiner.model", "unknown_model")),
        ({"refiner": by("sdxl")}, ("refiner.model", "same_model")),
        ({"refiner": by("sd-1.5")}, ("refiner.model", "not_supported")),
        ({"refiner": by("playground-v2.5")}, ("refiner.model", "not_supported")),
        ({"hires": {"model": "nowhere"}}, ("hires.model", "unknown_model")),
        ({"hires": {"model": "sd-1.5"}}, ("hires.model", "not_supported")),
        ({"hires": {"model": "sdxl-refiner", "strength": 1.0}}, ("hires.strength", "too_large")),
        ({"refiner": by(), "scheduler": "dpmpp_sde"}, ("refiner", "not_supported")),
        ({"refiner": by(start=1.0)}, ("refiner.start", "less_than")),
        ({"refiner": by(start=0.0)}, ("refiner.start", "greater_than")),
        ({"refiner": {"start": 0.5}}, ("refiner.model", "missing")),
        ({"refiner": by(start=0.5), "image": KEY, "strength": 0.5}, ("refiner.start", "too_small")),
        ({"denoising_end": 0.8}, ("denoising_end", "without_latents")),
        ({"denoising_end": 0.8, "output": ["image", "latents"]}, ("denoising_end", "without_latents")),
        ({"denoising_end": 0.8, "output": ["latents"], "refiner": by()}, ("denoising_end", "not_supported")),
        ({"denoising_end": 0.8, "output": ["latents"], "hires": {}}, ("denoising_end", "not_supported")),
        (
            {"denoising_end": 0.4, "output": ["latents"], "image": KEY, "strength": 0.5},
            ("denoising_end", "too_small"),
        ),
        ({"prompt_embeds": EMBEDS, "refiner": by()}, ("prompt_embeds", "not_supported")),
        ({"prompt_embeds": EMBEDS, "hires": {"model": "sdxl-refiner"}}, ("prompt_embeds", "not_supported")),
        ({"image": KEY, "denoising_start": 0.8}, ("denoising_start", "without_latents")),
        ({"image": LATENTS, "denoising_start": 0.8, "strength": 0.5}, ("strength", "not_supported")),
        (
            {"image": LATENTS, "denoising_start": 0.8, "denoising_end": 0.8, "output": ["latents"]},
            ("denoising_end", "too_small"),
        ),
        ({"image": LATENTS, "denoising_start": 0.9, "refiner": by()}, ("refiner.start", "too_small")),
    ],
)
def test_what_cannot_be_is_named(fields: dict[str, Any], fault: tuple[str, str]) -> None:
    assert found(**fields) == [fault]


@pytest.mark.parametrize("model", ["sd-1.5", "playground-v2.5"])
def test_families_whose_denoising_is_not_cut_say_why(model: str) -> None:
    assert ("denoising_end", "not_supported") in found(model=model, denoising_end=0.8, output=["latents"])
    assert ("refiner", "not_supported") in found(model=model, refiner=by())


def test_pndm_is_not_handed_over() -> None:
    catalogue = {**CATALOGUE, "sdxl": SDXL.model_copy(update={"schedulers": ["pndm", "euler"]})}
    assert ("refiner", "not_supported") in found(catalogue, scheduler="pndm", refiner=by())


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"schedulers": ["ddim"]}, "scheduler_not_supported"),
        ({"kinds": ["encode"]}, "kind_not_supported"),
        ({"max_side": 512}, "out_of_range"),
        ({"max_pixels": 512 * 512}, "too_many_pixels"),
        ({"max_steps": 10}, "too_large"),
    ],
)
def test_a_refiner_has_limits_of_its_own(changes: dict[str, Any], code: str) -> None:
    assert {("refiner.model", code)} == set(found(with_refiner(**changes), refiner=by()))


def test_faults_of_form_are_named_together_with_those_of_a_refiner() -> None:
    assert {field for field, _ in found(prompt="", refiner=by("nowhere"))} == {"prompt", "refiner.model"}


def test_each_model_is_a_need_of_its_own() -> None:
    asked = {"prompt": "a", "model": "sdxl", "refiner": by(), "hires": {"model": "sdxl-refiner"}}
    request = resolve(asked, CATALOGUE, lambda: None).filled
    assert needs_of(request) == ("hires", "model:sdxl-refiner", "refiner")
    assert further_models(request) == ("sdxl-refiner",)


def test_what_goes_on_has_no_strength_once_it_is_filled_in() -> None:
    asked = {"kind": "img2img", "prompt": "a", "model": "sdxl", "image": LATENTS, "denoising_start": 0.8}
    filled = resolve(asked, CATALOGUE, lambda: None).filled
    assert filled.strength is None
    assert resolve(filled, CATALOGUE, lambda: None).filled == filled
