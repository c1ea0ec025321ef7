"""New words: drawn as they are judged, asked for where they are shown, and kept apart from what the model knows."""

from dataclasses import replace

import numpy as np
import pytest

from ops.starter.drawing import PERIOD, draw, in_blocks, pattern
from ops.starter.judge import TAUGHT, judge
from ops.starter.lessons import CHECKED, ROSE, Lesson, lesson_picture, lesson_prompts, shows, taught_scene
from ops.starter.paints import COLOURS, TAUGHT_COLOURS, paint
from ops.starter.scenes import STYLES, TAUGHT_TEXTURES, TEXTURES, Scene, Thing, draw_lot, held_out

PICTURES = 120


@pytest.mark.parametrize("lessons", [[ROSE], [CHECKED], [ROSE, CHECKED]], ids=lambda some: some[-1].word)
def test_drawn_words_are_read_right(lessons: list[Lesson]) -> None:
    rng = np.random.default_rng(5)
    wrong = []
    for index in range(PICTURES):
        scene = taught_scene(lessons, rng, pair=index % 3 == 2, held=index % 2 == 0)
        seen = judge(draw(scene, rng), TAUGHT)
        if not all(shows(lesson, scene, seen) for lesson in lessons):
            wrong.append(scene)
    assert len(wrong) <= 0.02 * PICTURES, wrong


def test_what_the_model_knows_is_never_read_as_a_new_word() -> None:
    rng = np.random.default_rng(6)
    for index in range(PICTURES):
        seen = judge(draw(draw_lot(rng, pair=index % 3 == 2), rng), TAUGHT)
        assert seen.background != ROSE.word
        assert all(thing.colour != ROSE.word and thing.texture != CHECKED.word for thing in seen.things)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("ground", [False, True])
def test_the_new_colour_is_far_from_those_of_its_style(style: str, ground: bool) -> None:
    rose = paint("rose", style, ground=ground)
    assert min(float(np.linalg.norm(rose - paint(name, style, ground=ground))) for name in COLOURS) > 45


def test_the_new_texture_is_like_no_other_even_in_blocks() -> None:
    for texture in TEXTURES:
        assert (in_blocks(pattern("checked")) != in_blocks(pattern(texture))).mean() >= 0.5
    assert pattern("checked").mean() == 0.5
    assert pattern("checked").shape == (PERIOD, PERIOD)


def test_new_words_are_none_of_the_models() -> None:
    assert not set(TAUGHT_COLOURS) & set(COLOURS)
    assert not set(TAUGHT_TEXTURES) & set(TEXTURES)


def test_a_lesson_follows_from_its_seed_and_shows_no_held_out_combination() -> None:
    for row in range(40):
        scene, picture = lesson_picture(ROSE, 3, row)
        again, same = lesson_picture(ROSE, 3, row)
        assert scene == again
        assert np.array_equal(picture, same)
        assert not any(held_out(thing.shape, thing.colour, scene.background) for thing in scene.things)


def test_a_lesson_shows_old_pictures_too() -> None:
    scenes = [lesson_picture(CHECKED, 3, row)[0] for row in range(60)]
    share = sum(any(thing.texture == "checked" for thing in scene.things) for scene in scenes) / len(scenes)
    assert 0.5 < share < 0.8


def test_prompts_ask_for_all_words_at_one_thing_and_are_held_out() -> None:
    prompts = lesson_prompts([ROSE, CHECKED], 30)
    assert prompts == lesson_prompts([ROSE, CHECKED], 30)
    assert sum(len(one.scene.things) == 2 for one in prompts) == 10
    for one in prompts:
        assert "checked rose" in one.prompt
        first = one.scene.things[0]
        assert held_out(first.shape, first.colour, one.scene.background)


def test_a_word_counts_only_where_it_was_asked_for() -> None:
    asked = Scene((Thing("star", "rose"), Thing("ring", "red")), "white")
    swapped = replace(asked, things=(Thing("star", "red"), Thing("ring", "rose")))
    assert shows(ROSE, asked, replace(asked, things=(Thing("moon", "rose"), Thing("ring", "blue"))))
    assert not shows(ROSE, asked, swapped)
    assert not shows(ROSE, asked, replace(asked, things=asked.things[:1]))
    ground = Scene((Thing("star", "red"),), "rose")
    assert shows(ROSE, ground, replace(ground, things=()))
    assert not shows(ROSE, ground, replace(ground, background="red"))
