"""Latents of the starter model's pictures: decoded they are the picture, encoded and decoded they show it."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from darkroom.tasks.validate import resolve
from ops.starter.drawing import Picture
from ops.starter.judge import faults, judge
from ops.starter.painting import ENTRY, Studio
from ops.starter.scenes import Scene, Thing

WORDS = [("star", "red", "blue"), ("circle", "green", "yellow"), ("heart", "white", "red")]
BOTH = ["image", "latents"]


def made(studio: Studio, data: bytes | None = None, **fields: Any) -> tuple[Picture, bytes | None]:
    """What a job leaves: its picture, and the file of its latents."""
    generator = studio.generator
    asked = resolve({"model": ENTRY.name, **fields}, {ENTRY.name: ENTRY}, lambda: None).filled
    prepared = generator.prepare(asked)
    sources = prepared.kind.read(prepared, {"image": data} if data else {})
    found = generator.generate(prepared, asked.seed_of(0), sources, lambda *_: None)
    return np.asarray(found.image) if found.image else np.zeros(0), found.files[0].data if found.files else None


KEY = "inputs/default/it.safetensors"


@pytest.mark.parametrize(("shape", "colour", "background"), WORDS)
def test_there_and_back(studio: Studio, shape: str, colour: str, background: str) -> None:
    prompt = f"a large {colour} {shape} on a {background} background"
    picture, latents = made(studio, prompt=prompt, seed=3, output=BOTH)
    decoded, none = made(studio, latents, kind="decode", image=KEY)
    assert np.array_equal(decoded, picture) and none is None
    again, encoded = made(studio, png(picture), kind="encode", image="inputs/default/it.png")
    assert again.size == 0
    back, _ = made(studio, encoded, kind="decode", image=KEY)
    assert np.abs(back.astype(int) - picture.astype(int)).mean() < 8
    scene = Scene((Thing(shape, colour, size="large"),), background)
    assert faults(scene, judge(back)) == faults(scene, judge(picture))


def test_latents_give_way_to_another_prompt_as_a_picture_does(studio: Studio) -> None:
    first, latents = made(studio, prompt="a large red circle on a yellow background", seed=1, output=BOTH)
    wish = {"kind": "img2img", "prompt": "a blue star on a white background", "image": KEY, "seed": 2}
    weak, half, strong = (made(studio, latents, strength=s, **wish)[0] for s in (0.0, 0.3, 1.0))
    assert np.array_equal(weak, first)
    assert judge(half).background == "yellow"
    assert not faults(Scene((Thing("star", "blue"),), "white"), judge(strong)) & {"background", "colour"}


def png(picture: Picture) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return out.getvalue()
