"""Sets of drawn pictures, from a seed."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ops.starter.drawing import Picture, draw
from ops.starter.scenes import SIDE, Scene, draw_lot

#: How many of the pictures show two things.
PAIRS = 0.35


@dataclass(frozen=True)
class Drawn:
    """Scenes and their pictures: (rows, 128, 128, 3) uint8."""

    scenes: list[Scene]
    pictures: Picture


def drawn_scene(seed: int, row: int) -> tuple[Scene, Picture]:
    """One random scene without held-out combinations, and its picture; both follow from the seed and the row."""
    rng = np.random.default_rng([seed, row])
    scene = draw_lot(rng, pair=bool(rng.random() < PAIRS))
    return scene, draw(scene, rng)


def drawn_set(rows: int, seed: int) -> Drawn:
    """The first rows of the seed."""
    scenes, pictures = [], np.empty((rows, SIDE, SIDE, 3), dtype=np.uint8)
    for row in range(rows):
        scene, pictures[row] = drawn_scene(seed, row)
        scenes.append(scene)
    return Drawn(scenes, pictures)


def to_tensor(pictures: NDArray[np.uint8]) -> Tensor:
    """(rows, h, w, 3) uint8 as (rows, 3, h, w) float32 in -1…1."""
    return torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))).float() / 127.5 - 1


def to_pixels(tensor: Tensor) -> Picture:
    """The way back, clamped and rounded."""
    pixels: Picture = ((tensor.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return pixels


def crop_near(drawn: Drawn, row: int, side: int, rng: np.random.Generator) -> Picture:
    """A square of the picture near one of its things, where it is worth looking; mostly on the grid of latents."""
    things = drawn.scenes[row].things
    thing = things[int(rng.integers(len(things)))]
    corner = np.array([thing.y, thing.x]) - side / 2 + rng.uniform(-30, 30, 2)
    corner = np.clip(corner, 0, SIDE - side)
    step = 8 if rng.random() < 0.85 else 1
    top, left = (corner // step * step).astype(int)
    return drawn.pictures[row, top : top + side, left : left + side]
