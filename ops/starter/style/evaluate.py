"""How often a style is shown, and what else a picture was to show is kept."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ops.starter.drawing import Picture, draw
from ops.starter.judge import judge
from ops.starter.painting import Studio
from ops.starter.scenes import Scene
from ops.starter.shapes import SHAPES
from ops.starter.style.card import table, write_card
from ops.starter.style.pictures import one_palette, repainted
from ops.starter.training import say

_AT_ONCE, _SEED = 8, 2025
_INPUT = "inputs/default/it.png"  # for the request's form: the pictures themselves are at hand


@dataclass(frozen=True)
class Wish:
    """A picture that is to be painted: in the style of `style`, of what `scene` shows, maybe from `content`."""

    scene: Scene
    style: Picture
    seed: int
    prompt: str = ""
    content: Picture | None = None


def paint(studio: Studio, wishes: Sequence[Wish], **fields: Any) -> list[Picture]:
    """Pictures (128, 128, 3) of all wishes, several at a time; `fields` are their requests'."""

    def one(wish: Wish) -> Picture:
        pictures = {"styles.0.image": wish.style} | ({} if wish.content is None else {"image": wish.content})
        begun = {"image": _INPUT} if wish.content is not None else {}
        asked = {"kind": "stylize", "prompt": wish.prompt, "seed": wish.seed, "styles": [{"image": _INPUT}], **begun}
        request = studio.resolved(**asked, **fields)
        (made,) = studio.develop(request, {name: Image.fromarray(picture) for name, picture in pictures.items()})
        return np.asarray(made)

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return list(threads.map(one, wishes))


def wishes_by_prompt(count: int) -> list[Wish]:
    """A shape in words, in the palette of a picture of another one."""
    made = []
    for seed in range(count):
        rng = np.random.default_rng([_SEED, seed])
        scene = one_palette(rng, held=True)
        shape = str(rng.choice([shape for shape in SHAPES if shape != scene.things[0].shape]))
        wanted = replace(scene, things=(replace(scene.things[0], shape=shape),))
        made.append(Wish(wanted, draw(scene, rng), seed, f"a large {shape}"))
    return made


def wishes_by_content(count: int) -> list[Wish]:
    """A picture's shape, which is not small, in the palette of a picture of another one; the prompt says it, too."""
    made = []
    for wish in wishes_by_prompt(2 * count):
        rng = np.random.default_rng([_SEED, wish.seed, 1])
        if wish.scene.things[0].size != "small":
            made.append(replace(wish, content=draw(repainted(wish.scene, rng), rng)))
    return made[:count]


def evaluate_style(model: Path, count: int) -> None:
    """Judges `count` pictures of each way, made as a worker makes them; writes the card, and prints its table."""
    columns: dict[str, dict[str, float]] = {}
    prompted, begun = wishes_by_prompt(count), wishes_by_content(count)
    ways: list[tuple[str, list[Wish], dict[str, float]]] = [("by prompt", prompted, {})]
    ways += [(f"over a picture, {strength:g}", begun, {"strength": strength}) for strength in (0.4, 0.5, 0.6, 0.7)]
    ways += [("0.6, style scale 0.8", begun, {"strength": 0.6, "style_scale": 0.8})]
    with closing(Studio()) as studio:
        for name, wishes, asked in ways:
            columns[name] = rates(wishes, paint(studio, wishes, **asked))
            say(f"{name}: {columns[name]}")
    write_card(model, columns, count)
    say(table(columns))


def rates(wishes: Sequence[Wish], pictures: Sequence[Picture]) -> dict[str, float]:
    """Shares, 0…1, of pictures that show what was wished for; the palette is that of all things, however many."""
    found = [_right(wish.scene, judge(picture)) for wish, picture in zip(wishes, pictures, strict=True)]
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def _right(asked: Scene, seen: Scene) -> dict[str, bool]:
    thing, alone = asked.things[0], len(seen.things) == 1
    right = {name: getattr(seen, name) == getattr(asked, name) for name in ("background", "style")}
    for name in ("colour", "texture"):
        right[name] = bool(seen.things) and all(getattr(one, name) == getattr(thing, name) for one in seen.things)
    right["background and colour"] = right["background"] and right["colour"]
    right["shape"] = alone and seen.things[0].shape == thing.shape
    right["place"] = alone and seen.position == asked.position
    right["all three"] = right["background and colour"] and right["shape"]
    return right
