"""What would have no say: refused of callers, read in records and manifests of before."""

from typing import Any

import pytest

from darkroom.tasks import InvalidRequest
from darkroom.tasks.catalogue import ModelOffer, builtin_catalogue
from darkroom.tasks.validate import resolve

CATALOGUE: dict[str, ModelOffer] = dict(builtin_catalogue())
KEY = "inputs/default/a.png"
LATENTS = "job-1/latents-0-0123456789abcdef.safetensors"
IMG2IMG = {"kind": "img2img", "image": KEY}
INPAINT = {"kind": "inpaint", "image": KEY, "mask": KEY}
WAY = {"kind": "interpolate", "frames": 3}
BY = {"model": "sdxl-refiner"}


def asked(**fields: Any) -> dict[str, Any]:
    return {"prompt": "a", "model": "sdxl", "num_inference_steps": 4, **fields}


def found(*, kept: bool = False, **fields: Any) -> list[tuple[str, str]]:
    try:
        resolve(asked(**fields), CATALOGUE, lambda: None, kept=kept)
    except InvalidRequest as error:
        return [(fault.field, fault.code) for fault in error.faults]
    return []


@pytest.mark.parametrize(
    ("fields", "faults"),
    [
        ({"hires": {"strength": 0.0, **BY}}, [("hires.model", "no_steps")]),
        ({"hires": {"strength": 0.2, "steps": 4, **BY}}, [("hires.model", "no_steps")]),
        ({"hires": {"strength": 0.0, "steps": 9}}, [("hires.steps", "no_steps")]),
        ({"hires": {"strength": 0.1, "steps": 9, **BY}}, [("hires.model", "no_steps"), ("hires.steps", "no_steps")]),
        ({"hires": {"strength": 1.0, "upscale": "latent"}}, [("hires.upscale", "from_noise")]),
        ({"hires": {"strength": 1.0}, "refiner": BY}, [("refiner", "from_noise")]),
        ({**IMG2IMG, "strength": 0.2, "refiner": {**BY, "start": 0.9}}, [("refiner", "no_steps")]),
        ({**IMG2IMG, "strength": 0.2, "denoising_end": 0.9, "output": ["latents"]}, [("denoising_end", "no_steps")]),
        ({"output": ["latents"], "output_format": "webp"}, [("output_format", "no_picture")]),
        ({**INPAINT, "output": ["latents"], "preserve_unmasked": False}, [("preserve_unmasked", "no_picture")]),
        ({**WAY, "prompt_to": "a"}, [("prompt_to", "same_ends")]),
        ({**WAY, "seed": 7, "seed_to": 7}, [("seed_to", "same_ends")]),
        ({**WAY, "seed": 7, "seed_to": 7, "prompt_to": "a"}, [("prompt_to", "same_ends"), ("seed_to", "same_ends")]),
    ],
)
def test_what_would_have_no_say_is_refused_and_read(fields: dict[str, Any], faults: list[tuple[str, str]]) -> None:
    assert found(**fields) == faults
    assert found(kept=True, **fields) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"hires": {"strength": 0.25, "steps": 4, **BY}},
        {"hires": {"strength": 0.0}},
        {"hires": {"strength": 0.0, "steps": 4}},  # as it is filled in
        {"hires": {"strength": 0.9, "upscale": "latent"}},
        {**IMG2IMG, "strength": 0.25, "refiner": {**BY, "start": 0.9}},
        {"kind": "img2img", "image": LATENTS, "denoising_start": 0.2, "refiner": BY},
        {"output": ["latents"]},
        {"output": ["latents"], "output_format": "png"},  # as records have it
        {"output": ["image", "latents"], "output_format": "webp"},
        {**INPAINT, "output": ["image", "latents"], "preserve_unmasked": False},
        {**WAY, "prompt_to": "a", "seed_to": 7},
        {**WAY, "seed": 7, "seed_to": 7, "prompt_to": "b"},
    ],
)
def test_what_has_its_say_stays_and_resolves_to_itself(fields: dict[str, Any]) -> None:
    filled = resolve(asked(**fields), CATALOGUE, lambda: None).filled
    assert resolve(filled, CATALOGUE, lambda: None).filled == filled
    assert resolve(filled.model_dump(mode="json"), CATALOGUE, lambda: None).filled == filled


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({**IMG2IMG, "strength": 0.2}, ["no_steps"]),
        ({**INPAINT, "strength": 0.2}, ["no_steps"]),
        ({**IMG2IMG, "strength": 0.25}, []),
        ({"hires": {"strength": 0.2}}, ["no_hires_steps"]),
        ({"hires": {"strength": 0.25}}, []),
        ({"hires": {"strength": 1.0}}, ["hires_from_noise"]),
        ({"kind": "img2img", "image": LATENTS, "denoising_start": 0.2}, []),
    ],
)
def test_a_pass_that_does_less_than_it_seems_is_told_of(fields: dict[str, Any], said: list[str]) -> None:
    resolved = resolve(asked(**fields), CATALOGUE, lambda: None)
    assert list(resolved.filled.warnings(resolved.offer)) == said
