"""Drawn pictures follow from their scene and seed, and training never sees what is held out."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ops.starter.drawing import draw, pattern
from ops.starter.pictures import drawn_scene, drawn_set, to_pixels, to_tensor
from ops.starter.scenes import SIDE, STYLES, Scene, Thing, draw_lot, held_out, place
from ops.starter.shapes import SHAPES, extent

Rng = Callable[[], np.random.Generator]


@pytest.fixture
def rng() -> Rng:
    return lambda: np.random.default_rng(3)


@pytest.mark.parametrize("style", STYLES)
def test_the_same_seed_draws_the_same_picture(style: str, rng: Rng) -> None:
    scene = Scene((Thing("star", "red"),), "blue", style)
    assert np.array_equal(draw(scene, rng()), draw(scene, rng()))


def test_other_seeds_draw_other_pictures() -> None:
    scene = Scene((Thing("star", "red"),), "blue")
    one, other = (draw(scene, np.random.default_rng(seed)) for seed in (1, 2))
    assert not np.array_equal(one, other)


def test_a_row_of_a_set_does_not_depend_on_how_many_rows_are_drawn() -> None:
    few, many = drawn_set(2, seed=5), drawn_set(4, seed=5)
    assert few.scenes == many.scenes[:2]
    assert np.array_equal(few.pictures, many.pictures[:2])


def test_pictures_survive_the_way_to_tensors_and_back() -> None:
    _, picture = drawn_scene(seed=5, row=0)
    assert np.array_equal(to_pixels(to_tensor(picture[None]))[0], picture)


def test_training_never_shows_a_held_out_combination() -> None:
    rng = np.random.default_rng(0)
    for index in range(400):
        scene = draw_lot(rng, pair=index % 2 == 0)
        assert not any(held_out(thing.shape, thing.colour, scene.background) for thing in scene.things)


def test_evaluation_shows_only_held_out_combinations() -> None:
    rng = np.random.default_rng(0)
    for index in range(100):
        scene = draw_lot(rng, pair=index % 2 == 0, held=True)
        assert held_out(scene.things[0].shape, scene.things[0].colour, scene.background)


def test_things_lie_within_the_picture_and_apart() -> None:
    rng = np.random.default_rng(1)
    for index in range(300):
        scene = draw_lot(rng, pair=index % 2 == 0)
        boxes = [_box(thing) for thing in scene.things]
        assert all(low >= 0 and high <= SIDE for box in boxes for low, high in box)
        if len(boxes) == 2:
            axis = 0 if scene.relation == "beside" else 1
            assert boxes[0][axis][1] < boxes[1][axis][0]


def test_placing_changes_no_words(rng: Rng) -> None:
    scene = draw_lot(rng(), pair=True)
    placed = place(scene, np.random.default_rng(9))
    assert placed != scene
    same = {"x": 0.0, "y": 0.0, "radius": 0.0}
    assert [replace(t, **same) for t in placed.things] == [replace(t, **same) for t in scene.things]


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_stay_within_the_room_that_placing_leaves_them(shape: str) -> None:
    assert all(0.5 < abs(side) <= 1.12 for side in extent(shape))


def test_textures_mark_a_part_of_the_surface() -> None:
    assert pattern("plain").sum() == 0
    assert 0.1 < pattern("dotted").mean() < pattern("striped").mean() == 0.5


def _box(thing: Thing) -> tuple[tuple[float, float], tuple[float, float]]:
    left, top, right, bottom = (thing.radius * side for side in extent(thing.shape))
    return (thing.x + left, thing.x + right), (thing.y + top, thing.y + bottom)
