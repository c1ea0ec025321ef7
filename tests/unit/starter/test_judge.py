"""The judge is right about drawn pictures before it judges generated ones."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from ops.starter.drawing import draw
from ops.starter.evaluate import ATTRIBUTES, Tally, evaluate, table
from ops.starter.judge import faults, judge
from ops.starter.prompts import Asked, held_out_prompts
from ops.starter.regions import close_gaps, grow, parts, shrink
from ops.starter.scenes import STYLES, Scene, Thing, draw_lot

PICTURES = 200


def test_99_of_100_attributes_of_drawn_pictures_are_read_right() -> None:
    rng = np.random.default_rng(8)
    wrong: Counter[str] = Counter()
    for index in range(PICTURES):
        scene = draw_lot(rng, pair=index % 3 == 2, held=index % 2 == 0)
        wrong.update(faults(scene, judge(draw(scene, rng))))
    assert max(wrong.values(), default=0) <= 0.01 * PICTURES, wrong


@pytest.mark.parametrize("style", STYLES)
def test_styles_are_told_apart(style: str) -> None:
    scene = Scene((Thing("heart", "red"),), "cyan", style)
    assert judge(draw(scene, np.random.default_rng(0))).style == style


def test_an_empty_picture_shows_nothing() -> None:
    seen = judge(draw(Scene((), "green"), np.random.default_rng(0)))
    assert (seen.things, seen.background) == ((), "green")


def test_noise_is_judged_without_complaint() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    assert faults(Scene((Thing("star", "red"),), "blue"), judge(noise))


def test_each_attribute_that_differs_is_a_fault() -> None:
    thing = Thing("star", "red")
    asked = Scene((thing,), "blue")
    assert faults(asked, asked) == set()
    assert faults(asked, replace(asked, background="white", style="sketch")) == {"background", "style"}
    assert faults(asked, replace(asked, things=(replace(thing, colour="pink", size="large"),))) == {"colour", "size"}
    assert faults(asked, replace(asked, position="left")) == {"position"}


def test_what_is_missing_has_no_right_attribute() -> None:
    asked = Scene((Thing("star", "red"),), "blue")
    assert faults(asked, Scene((), "blue")) == {"count", "colour", "shape", "texture", "size", "position"}


def test_the_prompts_are_the_same_every_time_and_each_one_is_new() -> None:
    prompts = held_out_prompts(60)
    assert prompts == held_out_prompts(60)
    assert len({item.prompt for item in prompts}) == 60
    assert sum(len(item.scene.things) == 2 for item in prompts) == 20


def test_a_perfect_painter_gets_a_nearly_perfect_table() -> None:
    def paint(asked: Asked) -> np.ndarray:
        return draw(asked.scene, np.random.default_rng(asked.seed))

    tallies = evaluate(paint, held_out_prompts(30))
    assert tallies["all"].judged == 30
    assert tallies["all"].right("background and colour") >= 0.96
    assert all(f"| {name} |" in table(tallies) for name in ATTRIBUTES)


def test_a_tally_counts_joint_attributes() -> None:
    tally = Tally()
    for found in (set[str](), {"shape"}, {"colour"}, {"size"}):
        tally.add(found)
    assert tally.right("background and colour") == 0.75
    assert tally.right("background, colour and shape") == 0.5
    assert tally.right("everything") == 0.25


def test_masks_shrink_grow_and_close() -> None:
    mask = np.zeros((20, 20), dtype=bool)
    mask[5:15, 5:15] = True
    assert shrink(mask, 2).sum() == 36
    assert grow(mask, 2).sum() == 196
    holed = mask.copy()
    holed[:, 9:11] = False
    assert np.array_equal(close_gaps(holed, 5), mask)
    assert len(parts(holed.sum(0), narrowest=4)) == 2
