"""What a picture can show: the vocabulary, scenes as values, and how they are drawn by lot."""

import zlib
from dataclasses import dataclass, replace

import numpy as np

from ops.starter.paints import COLOURS, stands_out
from ops.starter.shapes import SHAPES

SIDE = 128  # pixels

TEXTURES = ("plain", "striped", "dotted")
TAUGHT_TEXTURES = ("checked",)  # the model was never shown it: a LoRA that comes with it teaches it
SIZES = ("small", "medium", "large")
POSITIONS = ("center", "left", "right", "top", "bottom")
RELATIONS = ("beside", "above")
STYLES = ("flat", "watercolour", "sketch", "pixel")
PAIR_STYLES = STYLES[:-1]  # two things have too few blocks each

#: Radii in pixels of one thing alone, and of one of a pair; the judge draws the line half-way.
RADII = {"small": 20.0, "medium": 31.0, "large": 42.0}
PAIR_RADII = {"small": 17.5, "medium": 24.5}
_SHIFT = {"center": (0, 0), "left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}


@dataclass(frozen=True)
class Thing:
    """One thing: its words, and where it lies: middle and radius in pixels."""

    shape: str
    colour: str
    texture: str = "plain"
    size: str = "medium"
    x: float = SIDE / 2
    y: float = SIDE / 2
    radius: float = RADII["medium"]


@dataclass(frozen=True)
class Scene:
    """A picture in words. One thing has a `position`, two a `relation`: the first lies left of or above the other."""

    things: tuple[Thing, ...]
    background: str
    style: str = "flat"
    position: str = "center"
    relation: str = "beside"


def held_out(shape: str, colour: str, background: str) -> bool:
    """Whether this combination is kept from training: one in ten, by its checksum."""
    return zlib.crc32(f"{shape} {colour} {background}".encode()) % 10 == 0


def draw_lot(rng: np.random.Generator, *, pair: bool, held: bool = False) -> Scene:
    """A random scene; with `held`, its (first) thing is a held-out combination, else none of its things is."""
    background = _pick(rng, tuple(COLOURS))
    first = _thing(rng, background, held=held)
    style = "flat" if rng.random() < 0.55 else _pick(rng, PAIR_STYLES[1:] if pair else STYLES[1:])
    if not pair:
        size = _legible(_pick(rng, SIZES, (0.25, 0.5, 0.25)), style)
        position = _pick(rng, POSITIONS, (0.4, 0.15, 0.15, 0.15, 0.15))
        return place(Scene((replace(first, size=size),), background, style, position), rng)
    second = _thing(rng, background, held=False, other=first)
    things = tuple(replace(t, size=_pick(rng, SIZES[:2], (0.3, 0.7))) for t in (first, second))
    return place(Scene(things, background, style, relation=_pick(rng, RELATIONS, (0.6, 0.4))), rng)


def place(scene: Scene, rng: np.random.Generator) -> Scene:
    """The same scene with middles and radii by lot, as its words allow."""
    if len(scene.things) == 1:
        return replace(scene, things=(_place_one(scene.things[0], scene.position, rng),))
    across = rng.uniform(-6, 6)
    placed = []
    for thing, middle in zip(scene.things, (34, 94), strict=True):
        along, other = middle + rng.uniform(-3, 3), SIDE / 2 + across + rng.uniform(-3, 3)
        x, y = (along, other) if scene.relation == "beside" else (other, along)
        placed.append(replace(thing, x=x, y=y, radius=PAIR_RADII[thing.size] * rng.uniform(0.95, 1.05)))
    return replace(scene, things=tuple(placed))


def _place_one(thing: Thing, position: str, rng: np.random.Generator) -> Thing:
    radius = RADII[thing.size] * rng.uniform(0.94, 1.06)
    far = 19.0 if thing.size == "large" else 28.0
    right, down = _SHIFT[position]
    jitter = rng.uniform(-1, 1, 2)
    x = SIDE / 2 + right * far + jitter[0] * (3 if right and thing.size == "large" else 6)
    y = SIDE / 2 + down * far + jitter[1] * (3 if down and thing.size == "large" else 6)
    low, high = 1.1 * radius, SIDE - 1.1 * radius  # no shape is larger than 1.1 radii
    return replace(thing, x=float(np.clip(x, low, high)), y=float(np.clip(y, low, high)), radius=radius)


def _thing(rng: np.random.Generator, background: str, *, held: bool, other: Thing | None = None) -> Thing:
    while True:
        shape, colour = _pick(rng, tuple(SHAPES)), _pick(rng, tuple(COLOURS))
        fits = colour != background and held_out(shape, colour, background) == held
        if fits and not (other and (shape, colour) == (other.shape, other.colour)):
            texture = _pick(rng, TEXTURES, (0.6, 0.2, 0.2))
            return Thing(shape, colour, texture if stands_out(colour, background) else "plain")


def _legible(size: str, style: str) -> str:
    """Fewer blocks than those of a large thing show no shape."""
    return "large" if style == "pixel" else size


def _pick(rng: np.random.Generator, options: tuple[str, ...], weights: tuple[float, ...] | None = None) -> str:
    return options[int(rng.choice(len(options), p=weights))]
