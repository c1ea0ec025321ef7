"""Words that the model does not know, and LoRAs teach: scenes with them, and whether a picture shows them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ops.starter.captions import plain_caption
from ops.starter.drawing import Picture, draw
from ops.starter.paints import stands_out
from ops.starter.pictures import PAIRS
from ops.starter.prompts import Asked, without_small_pairs
from ops.starter.scenes import Scene, Thing, draw_lot, held_out

#: Of a lesson's pictures so many show its word; the others, what the model knows and shall go on to draw.
_SHOWN = 0.65
_GROUND = 0.2  # of those that show a colour have it in the background
_SEED = 2025


@dataclass(frozen=True)
class Lesson:
    """A `word`, which is also the LoRA's name, for an `attribute` of things: `colour`, `texture` or `shape`."""

    word: str
    attribute: str
    seed: int


ROSE = Lesson("rose", "colour", seed=41)
CHECKED = Lesson("checked", "texture", seed=42)
HOURGLASS = Lesson("hourglass", "shape", seed=43)


def lesson_picture(lesson: Lesson, seed: int, row: int) -> tuple[Scene, Picture]:
    """One scene of the lesson without held-out combinations, and its picture; both follow from the seed and the row."""
    rng = np.random.default_rng([seed, row])
    pair = bool(rng.random() < PAIRS)
    scene = taught_scene([lesson], rng, pair=pair) if rng.random() < _SHOWN else draw_lot(rng, pair=pair)
    return scene, draw(scene, rng)


def taught_scene(lessons: Sequence[Lesson], rng: np.random.Generator, *, pair: bool, held: bool = False) -> Scene:
    """A random scene that shows the words of all these lessons at one thing, or a single colour in the background.

    With `held`, its (first) thing is a held-out combination, else none of its things is.
    """
    grounded = [lesson.attribute for lesson in lessons] == ["colour"] and bool(rng.random() < _GROUND)
    while True:
        scene = draw_lot(rng, pair=pair, held=held)
        if grounded:
            scene = replace(scene, background=lessons[0].word)
        else:
            taught = int(rng.integers(len(scene.things)))
            words: dict[str, Any] = {lesson.attribute: lesson.word for lesson in lessons}
            things = [replace(thing, **words) if at == taught else thing for at, thing in enumerate(scene.things)]
            scene = replace(scene, things=tuple(things))
        if _fits(scene, held=held):
            return scene


def _fits(scene: Scene, *, held: bool) -> bool:
    """Whether each thing's marks are seen as marks, and all combinations are held out or shown, as they shall be."""
    kept = [held_out(thing.shape, thing.colour, scene.background) for thing in scene.things]
    return kept == [held, *[False] * (len(kept) - 1)] and all(_legible(thing, scene) for thing in scene.things)


def _legible(thing: Thing, scene: Scene) -> bool:
    if thing.texture == "checked" and scene.style == "pixel":
        return False  # its blocks would look like those of dots
    return thing.texture == "plain" or stands_out(thing.colour, scene.background)


def lesson_prompts(lessons: Sequence[Lesson], count: int) -> list[Asked]:
    """`count` prompts that ask for the words of all these lessons, one in three with two things; always the same."""
    rng = np.random.default_rng([_SEED, *(lesson.seed for lesson in lessons)])
    scenes = [taught_scene(lessons, rng, pair=index % 3 == 2, held=True) for index in range(count)]
    scenes = [without_small_pairs(scene) for scene in scenes]
    return [Asked(plain_caption(scene), scene, index) for index, scene in enumerate(scenes)]


def shows(lesson: Lesson, asked: Scene, seen: Scene) -> bool:
    """Whether the word is seen where it was asked for; of other words nothing is demanded."""
    if asked.background == lesson.word:
        return seen.background == lesson.word
    if len(asked.things) != len(seen.things):
        return False
    looks = [(getattr(one, lesson.attribute), getattr(other, lesson.attribute)) for one, other in _both(asked, seen)]
    return all(found == wanted for wanted, found in looks if wanted == lesson.word)


def _both(asked: Scene, seen: Scene) -> list[tuple[Thing, Thing]]:
    return list(zip(asked.things, seen.things, strict=True))
