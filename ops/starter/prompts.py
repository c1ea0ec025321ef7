"""The prompts of the evaluation: scenes whose first thing is a combination that training never showed."""

from dataclasses import dataclass, replace

import numpy as np

from ops.starter.captions import plain_caption
from ops.starter.scenes import Scene, draw_lot

SEED = 2024


@dataclass(frozen=True)
class Asked:
    """A prompt, the scene that it describes, and the seed to generate with."""

    prompt: str
    scene: Scene
    seed: int


def held_out_prompts(count: int = 300) -> list[Asked]:
    """`count` prompts, one in three with two things of middle size; the same ones every time.

    Small ones of a pair are shown in training, but sixteen latents a side hold no star or ring of their size for sure.
    """
    rng = np.random.default_rng(SEED)
    scenes = [without_small_pairs(draw_lot(rng, pair=index % 3 == 2, held=True)) for index in range(count)]
    return [Asked(plain_caption(scene), scene, index) for index, scene in enumerate(scenes)]


def without_small_pairs(scene: Scene) -> Scene:
    """The scene with things of middle size where there are two."""
    if len(scene.things) == 1:
        return scene
    return replace(scene, things=tuple(replace(thing, size="medium") for thing in scene.things))
