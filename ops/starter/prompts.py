"""The prompts of the evaluation: scenes whose first thing is a combination that training never showed."""

from dataclasses import dataclass

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
    """`count` prompts, one in three with two things; the same ones every time."""
    rng = np.random.default_rng(SEED)
    scenes = [draw_lot(rng, pair=index % 3 == 2, held=True) for index in range(count)]
    return [Asked(plain_caption(scene), scene, index) for index, scene in enumerate(scenes)]
