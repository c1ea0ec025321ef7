"""The starter model makes of a mask's inside what the prompt says, and goes on with the ground beyond an edge."""

import numpy as np
import pytest
from PIL import Image

from ops.starter.judge import faults, judge
from ops.starter.painting import Studio
from ops.starter.prompts import Asked
from ops.starter.scenes import Scene, Thing
from tests.unit.worker.kinds.painting import numbers, paint, prepared, spot

STEPS = {"num_inference_steps": 20}


def wish(shape: str, colour: str, background: str, seed: int) -> Asked:
    return Asked(f"a {colour} {shape} on a {background} background", Scene((Thing(shape, colour),), background), seed)


@pytest.fixture(scope="module")
def sun(studio: Studio) -> Image.Image:
    """A red circle on yellow ground."""
    return Image.fromarray(studio("a red circle on a yellow background", 1))


def test_inside_of_the_mask_is_what_the_prompt_says_and_outside_nothing_changes(
    studio: Studio, sun: Image.Image
) -> None:
    mask, right = spot((128, 128), 16, 16, 112, 112), 0
    for asked in (
        wish("star", "green", "yellow", 1),
        wish("heart", "blue", "yellow", 2),
        wish("square", "black", "yellow", 3),
    ):
        made = paint(studio.generator, sun, mask, asked.seed, prompt=asked.prompt, **STEPS)
        right += not faults(asked.scene, judge(np.asarray(made))) & {"background", "count", "colour", "shape"}
        outside = numbers(spot((128, 128), 8, 8, 120, 120)) == 0
        assert (numbers(made)[outside] == numbers(sun)[outside]).all()
    assert right >= 2


@pytest.mark.parametrize("side", ["left", "top", "right", "bottom"])
def test_new_ground_goes_on_with_the_old_and_shows_no_seam(studio: Studio, sun: Image.Image, side: str) -> None:
    job, sources = prepared(studio.generator, sun, None, prompt="a yellow background", extend={side: 48}, **STEPS)
    made = numbers(studio.generator.generate(job, 1, sources, lambda *_: None).picture)
    new = numbers(sources["canvas"].mask) == 255
    ground = np.median(numbers(sun)[:4].reshape(-1, 3), axis=0)
    assert made.shape == ((128, 176, 3) if side in ("left", "right") else (176, 128, 3))
    assert abs(np.median(made[new], axis=0) - ground).max() <= 6
    old = numbers(sources["canvas"].mask) == 0
    across = 1 if side in ("left", "right") else 0
    rims = [np.median(made[near_edge(part, across)], axis=0) for part in (new, old)]
    assert abs(rims[0] - rims[1]).max() <= 4


def near_edge(
    part: "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]", axis: int
) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]":
    """Of new or old ground, the six lines that are closest to the other."""
    lines = np.flatnonzero(part.all(axis=1 - axis))
    near = lines[:6] if lines[0] > 0 else lines[-6:]
    found = np.zeros_like(part)
    found[(slice(None), near) if axis else near] = True
    return found


def test_a_small_part_of_a_large_picture_is_worked_at_the_models_size(studio: Studio, sun: Image.Image) -> None:
    large = sun.resize((401, 375))
    mask = spot(large.size, 150, 130, 250, 230)
    made = paint(
        studio.generator, large, mask, 4, prompt="a large blue square on a red background", padding=14, **STEPS
    )
    inside = numbers(made)[150:210, 170:230].reshape(-1, 3).mean(axis=0)
    assert made.size == large.size and inside[2] > inside[0] + 40
    assert (numbers(made)[:120] == numbers(large)[:120]).all()
