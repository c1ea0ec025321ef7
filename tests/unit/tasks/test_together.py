"""Faults that are named together: every true one, and none that follows from another."""

from typing import Any

import pytest

from darkroom.tasks import InvalidRequest
from darkroom.tasks.catalogue import ModelOffer, builtin_catalogue
from darkroom.tasks.requests import KINDS
from darkroom.tasks.validate import resolve

CATALOGUE: dict[str, ModelOffer] = dict(builtin_catalogue())
KEY = "inputs/default/a.png"
LATENTS = "job-1/latents-0-0123456789abcdef.safetensors"
IMG2IMG = {"kind": "img2img", "image": KEY}
INPAINT = {"kind": "inpaint", "image": KEY}
BY = {"model": "sdxl-refiner"}


def found(**fields: Any) -> list[tuple[str, str]]:
    try:
        resolve({"prompt": "a", "model": "sdxl", **fields}, CATALOGUE, lambda: None)
    except InvalidRequest as error:
        return [(fault.field, fault.code) for fault in error.faults]
    return []


@pytest.mark.parametrize(
    ("fields", "faults"),
    [
        ({**INPAINT, "mask": "C:/x.png", "mask_channel": "alpha"}, [("mask", "input_reference_invalid")]),
        ({**INPAINT, "extend": {"left": -8}}, [("extend.left", "greater_than_equal")]),
        ({**INPAINT, "mask": KEY, "padding": -1, "work_size": [512, 512]}, [("padding", "greater_than_equal")]),
        ({**IMG2IMG, "width": 7, "height": 64}, [("width", "multiple_of"), ("height", "out_of_range")]),
        ({"width": 7, "hires": {"scale": 4}}, [("width", "multiple_of")]),
        ({"width": 7, "output_format": "webp", "refiner": BY}, [("width", "multiple_of")]),
        ({"kind": "interpolate", "frames": 3, "prompt_to": "\0"}, [("prompt_to", "invalid_value")]),
        ({"kind": "interpolate", "frames": 1}, [("frames", "greater_than_equal"), ("prompt_to", "missing")]),
        (
            {"kind": "img2img", "image": "x.safetensors", "denoising_start": 0.5},
            [("image", "input_reference_invalid")],
        ),
        ({**IMG2IMG, "strength": 2, "refiner": {**BY, "start": 0.1}}, [("strength", "less_than_equal")]),
        ({"output": ["x"], "denoising_end": 0.5, "output_format": "webp"}, [("output.0", "literal_error")]),
        ({"num_inference_steps": 0, "hires": {"strength": 0.01, **BY}},
         [("num_inference_steps", "greater_than_equal")]),
        ({"output": "latents", "denoising_end": 0.5, "prompt": ""}, [("prompt", "invalid_value")]),
        ({"scheduler": "x", "refiner": BY}, [("scheduler", "invalid_value")]),
        ({"hires": {"scale": 9}, "denoising_end": 0.5},
         [("hires.scale", "less_than_equal"), ("denoising_end", "without_latents")]),
        ({"prompt": "", "hires": {"model": "x"}, "refiner": {"model": "y"}, "width": 64, "num_images": 99},
         [("prompt", "invalid_value"), ("width", "out_of_range"), ("num_images", "too_large"),
          ("hires.model", "unknown_model"), ("refiner.model", "unknown_model")]),
        ({"negative_prompt": "x" * 5000, "prompt": "\0"},
         [("prompt", "invalid_value"), ("negative_prompt", "too_long")]),
        ({"prompt_embeds": "?", "clip_skip": 1, "refiner": BY}, [("prompt_embeds", "input_reference_invalid")]),
    ],
)  # fmt: skip
def test_all_that_is_true_is_named_and_nothing_else(fields: dict[str, Any], faults: list[tuple[str, str]]) -> None:
    assert sorted(found(**fields)) == sorted(faults)


#: Requests without a fault, which use every field.
WHOLE: dict[str, dict[str, Any]] = {
    "txt2img": {"hires": {**BY, "scale": 1.2}, "refiner": BY, "width": 768, "height": 768, "num_inference_steps": 20},
    "img2img": {**IMG2IMG, "strength": 0.5, "refiner": BY, "output_format": "webp", "width": 768, "height": 768},
    "img2img of latents": {"kind": "img2img", "image": LATENTS, "denoising_start": 0.2, "denoising_end": 0.8,
                           "output": ["latents"]},
    "inpaint": {**INPAINT, "mask": KEY, "mask_channel": "alpha", "padding": 8, "work_size": [1024, 1024],
                "extend": {"left": 64}, "strength": 0.5, "preserve_unmasked": True},
    "interpolate": {"kind": "interpolate", "frames": 3, "seed": 1, "seed_to": 2, "prompt_to": "b", "prompt_2": "c"},
    "of embeddings": {"prompt_embeds": "job-1/embeddings-0-0123456789abcdef.safetensors"},
    "embed": {"kind": "embed", "negative_prompt": "c", "guidance_scale": 3.0},
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_a_field_that_cannot_be_read_makes_no_other_fault(name: str) -> None:
    """Whatever rule looks at it: nobody knows what it would find."""
    whole = WHOLE[name]
    assert found(**whole) == []
    for field in KINDS[whole.get("kind", "txt2img")].model_fields:
        if field not in ("kind", "model"):
            faults = found(**{**whole, field: object()})
            assert {fault.partition(".")[0] for fault, _ in faults} == {field}, (field, faults)


def test_a_side_beyond_a_further_model_is_named() -> None:
    small = CATALOGUE["sdxl-refiner"].limits.model_copy(update={"max_side": 512})
    catalogue = {**CATALOGUE, "sdxl-refiner": CATALOGUE["sdxl-refiner"].model_copy(update={"limits": small})}
    asked = {"prompt": "a", "model": "sdxl", "width": 768, "height": 1024, "refiner": BY}
    with pytest.raises(InvalidRequest) as caught:
        resolve(asked, catalogue, lambda: None)
    assert [str(fault) for fault in caught.value.faults] == [
        "refiner.model: sdxl-refiner: the width 768 is not within 256 to 512 pixels",
        "refiner.model: sdxl-refiner: the height 1024 is not within 256 to 512 pixels",
    ]
