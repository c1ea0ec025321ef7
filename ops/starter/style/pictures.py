"""What the style adapter learns from: pictures that share a palette, and pictures that share all but the palette."""

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ops.starter.drawing import Picture, draw
from ops.starter.latents import encode
from ops.starter.paints import COLOURS, stands_out
from ops.starter.pictures import to_tensor
from ops.starter.scenes import PAIR_STYLES, STYLES, TEXTURES, Scene, draw_lot, place
from ops.starter.training import say

SEEN = 64  # pixels a side of what the image encoder sees
ROWS, SEED = 10_000, 31
_PAIRS = 0.15
_BATCH = 50

Palette = tuple[str, str, str, str]


@dataclass(frozen=True)
class StyleSet:
    """Scenes, and for each what shows it (`latents`), what shows the same in another palette (`others`), and what the
    encoder sees of the first, placed anew (`views`), and of the second (`other_views`).

    Latents (rows, 4, 16, 16) float32, views (rows, 64, 64, 3) uint8.
    """

    scenes: list[Scene]
    latents: Tensor
    others: Tensor
    views: NDArray[np.uint8]
    other_views: NDArray[np.uint8]

    def alike(self) -> list[NDArray[np.int_]]:
        """For each row the rows of its palette."""
        groups: dict[Palette, list[int]] = defaultdict(list)
        for row, scene in enumerate(self.scenes):
            groups[palette(scene)].append(row)
        return [np.array(groups[palette(scene)]) for scene in self.scenes]


def palette(scene: Scene) -> Palette:
    """What a style is here: the ground's colour, the things' colour and texture, the manner of drawing."""
    return scene.background, scene.things[0].colour, scene.things[0].texture, scene.style


def one_palette(rng: np.random.Generator, *, held: bool = False, pair: bool = False) -> Scene:
    """A random scene; two things have one colour and texture."""
    scene = draw_lot(rng, pair=pair, held=held)
    first, *more = scene.things
    return replace(scene, things=(first, *(replace(it, colour=first.colour, texture=first.texture) for it in more)))


def repainted(scene: Scene, rng: np.random.Generator) -> Scene:
    """The same things in the same places, in a palette by lot."""
    background, colour = rng.choice(list(COLOURS), size=2, replace=False)
    texture = str(rng.choice(TEXTURES)) if stands_out(str(colour), str(background)) else "plain"
    # Pixel art of things that are not large shows no shape.
    styles = STYLES if len(scene.things) == 1 and scene.things[0].size == "large" else PAIR_STYLES
    style = str(rng.choice(styles)) if rng.random() < 0.45 else "flat"
    things = tuple(replace(thing, colour=str(colour), texture=texture) for thing in scene.things)
    return replace(scene, things=things, background=str(background), style=style)


def view(picture: Picture) -> NDArray[np.uint8]:
    """A picture as CLIP's processor hands it to the encoder, but for the range: (64, 64, 3) uint8."""
    return np.array(Image.fromarray(picture).resize((SEEN, SEEN), Image.Resampling.BICUBIC))


def style_set(vae: AutoencoderKL, folder: Path) -> StyleSet:
    """Drawn and encoded, or taken from `folder`."""
    path = folder / f"style-{SEED}-{ROWS}.pt"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(_drawn(vae), path)
    kept = torch.load(path, weights_only=True)
    views = (kept[name].numpy() for name in ("views", "other_views"))
    return StyleSet([_scene(row)[0] for row in range(ROWS)], kept["latents"], kept["others"], *views)


def _drawn(vae: AutoencoderKL) -> dict[str, Tensor]:
    columns: dict[str, list[Tensor]] = defaultdict(list)
    for start in range(0, ROWS, _BATCH):
        made = [_pictures(row) for row in range(start, start + _BATCH)]
        for name, pictures in zip(("latents", "others"), zip(*made, strict=True), strict=False):
            columns[name].append(encode(vae, to_tensor(np.stack(pictures))))
        columns["views"].append(torch.from_numpy(np.stack([view(again) for *_, again in made])))
        columns["other_views"].append(torch.from_numpy(np.stack([view(other) for _, other, _ in made])))
        if start // _BATCH % 20 == 0:
            say(f"style pictures: {start} of {ROWS}")
    return {name: torch.cat(parts) for name, parts in columns.items()}


def _scene(row: int) -> tuple[Scene, np.random.Generator]:
    rng = np.random.default_rng([SEED, row])
    return one_palette(rng, pair=bool(rng.random() < _PAIRS)), rng


def _pictures(row: int) -> tuple[Picture, Picture, Picture]:
    """The scene, the same in another palette, and the scene once more, a little moved."""
    scene, rng = _scene(row)
    return draw(scene, rng), draw(repainted(scene, rng), rng), draw(place(scene, rng), rng)
