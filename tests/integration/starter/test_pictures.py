"""The starter model draws what it is asked for, and every wish changes the picture as it should."""

import io
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from darkroom.tasks.requests.hires import Upscale
from darkroom.worker.models.loading import LoadedModel
from ops.starter.drawing import Picture
from ops.starter.judge import faults, judge
from ops.starter.painting import ENTRY, Studio
from ops.starter.prompts import Asked, held_out_prompts
from ops.starter.scenes import Scene, Thing
from tests.integration.starter.conftest import Paint, right

PROMPTS = 18


def apart(one: Picture, other: Picture) -> float:
    """Mean absolute difference, in levels of 0 to 255."""
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


def asked(shape: str, colour: str, background: str, seed: int) -> Asked:
    """One thing of middle size in the middle."""
    article = "an" if colour == "orange" else "a"
    scene = Scene((Thing(shape, colour),), background)
    return Asked(f"{article} {colour} {shape} on a {background} background", scene, seed)


FEW = 10  # steps, half of the default: enough for what is told by colours
SOME = [asked("star", "red", "blue", 1), asked("circle", "green", "yellow", 2), asked("heart", "white", "red", 3)]


@pytest.fixture(scope="module")
def some(paint: Paint) -> list[Picture]:
    return paint(SOME, num_inference_steps=FEW)


@pytest.fixture(scope="module")
def held_out() -> list[Asked]:
    return held_out_prompts(PROMPTS)


@pytest.fixture(scope="module")
def drawn(paint: Paint, held_out: list[Asked]) -> list[Picture]:
    return paint(held_out)


def test_the_prompt_decides_the_picture(held_out: list[Asked], drawn: list[Picture]) -> None:
    """Combinations that training never showed."""
    assert right(held_out, drawn, "background", "colour") >= 0.8 * PROMPTS
    assert right(held_out, drawn, "background", "colour", "shape") >= 0.7 * PROMPTS


def test_without_guidance_fewer_pictures_are_right(paint: Paint, held_out: list[Asked], drawn: list[Picture]) -> None:
    every = ("background", "colour", "shape", "texture", "size", "position", "style")
    unguided = paint(held_out, guidance_scale=1.0)
    assert right(held_out, unguided, *every) < right(held_out, drawn, *every)


def test_other_seeds_give_other_pictures_of_the_same_thing(paint: Paint, studio: Studio) -> None:
    wishes = [asked("star", "red", "blue", seed) for seed in (1, 2, 3, 4)]
    one, *others = paint(wishes)
    assert all(apart(one, other) > 1 for other in others)
    assert right(wishes, [one, *others], "background", "colour", "shape") >= 3
    first, again = (studio(wishes[0].prompt, 1) for _ in range(2))
    assert np.array_equal(first, again)


def test_a_source_picture_gives_way_as_the_strength_rises(studio: Studio) -> None:
    target = asked("star", "blue", "white", 2)
    source = studio("a large red circle on a yellow background", 1)
    wished = studio(target.prompt, target.seed)
    found = [studio(target.prompt, target.seed, source, strength=strength) for strength in (0.0, 0.3, 0.6, 0.8, 1.0)]
    from_source, from_wish = ([apart(picture, to) for picture in found] for to in (source, wished))
    assert from_source == sorted(from_source)
    assert from_wish == sorted(from_wish, reverse=True)
    assert from_source[0] < 8
    assert from_wish[-1] == 0
    assert judge(found[0]).background == judge(found[1]).background == "yellow"
    assert not faults(target.scene, judge(found[-1])) & {"background", "colour"}


def test_a_negative_prompt_removes_what_it_names(paint: Paint) -> None:
    """The prompt leaves the background open."""
    wishes = [Asked("a red star", Scene((Thing("star", "red"),), "white"), seed) for seed in range(12)]
    free = [judge(picture).background for picture in paint(wishes, num_inference_steps=FEW)]
    often = max(set(free), key=free.count)
    without = paint(wishes, num_inference_steps=FEW, negative_prompt=f"{often} background")
    kept = [judge(picture).background for picture in without]
    assert kept.count(often) < free.count(often)


def test_every_scheduler_draws_the_right_picture(paint: Paint) -> None:
    each = [{"scheduler": name} for name in ENTRY.schedulers for _ in SOME]
    drawn = iter(paint(SOME * len(ENTRY.schedulers), each, num_inference_steps=FEW))
    good = {name: right(SOME, [next(drawn) for _ in SOME], "background", "colour") for name in ENTRY.schedulers}
    assert all(count >= 2 for count in good.values()), good


@pytest.mark.parametrize("prompt", ["猫 🐈", "zxqv " * 200, "a photograph of a cathedral, 8k, trending", "!!!", "red"])
def test_words_it_does_not_know_do_no_harm(studio: Studio, prompt: str) -> None:
    assert studio(prompt, 1, num_inference_steps=4).shape == (128, 128, 3)


@pytest.mark.parametrize(("width", "height"), [(64, 64), (256, 256), (64, 256), (192, 136)])
def test_other_sizes_come_out_as_asked(studio: Studio, width: int, height: int) -> None:
    picture = studio("a red star on a blue background", 1, width=width, height=height, num_inference_steps=4)
    assert picture.shape == (height, width, 3)


@pytest.mark.parametrize("upscale", get_args(Upscale))
def test_a_second_pass_shows_what_was_asked_at_the_larger_size(paint: Paint, some: list[Picture], upscale: str) -> None:
    """It keeps the first picture's things where they are; latents that were interpolated leave blurs behind."""
    large = paint(SOME, num_inference_steps=FEW, hires={"scale": 1.5, "strength": 0.3, "upscale": upscale})
    assert {picture.shape for picture in large} == {(192, 192, 3)}
    small = [np.asarray(Image.fromarray(one).resize((128, 128), Image.Resampling.BOX)) for one in large]
    assert right(SOME, small, "background", "colour") == len(SOME)
    assert right(SOME, small, "shape") >= len(SOME) - (upscale == "latent")
    assert all(apart(one, first) < 8 for one, first in zip(small, some, strict=True))


def test_a_preview_looks_like_the_picture(studio: Studio) -> None:
    model: LoadedModel = studio.generator.model
    assert model.preview is not None
    latents = []
    prepared = studio.generator.prepare(studio.request("a large red star on a blue background", 1))
    picture = studio.generator.generate(prepared, 1, {}, lambda _step, _of, found: latents.append(found)).picture
    preview = Image.open(io.BytesIO(studio.generator.preview(latents[-1]))).resize((16, 16), Image.Resampling.BOX)
    assert apart(np.asarray(preview), np.asarray(picture.resize((16, 16), Image.Resampling.BOX))) < 20
