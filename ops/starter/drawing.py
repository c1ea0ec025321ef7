"""Scenes as pictures: (128, 128, 3) uint8, the same for the same scene and seed."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from ops.starter.paints import INK, paint, tint
from ops.starter.scenes import SIDE, Scene, Thing
from ops.starter.shapes import Field, shape_of

Picture = NDArray[np.uint8]

#: Pixels a side of pixel art's blocks: each is one latent, so that its edges are sharp.
BLOCK = 8
#: Textures repeat every sixteen pixels on a fixed grid: a stripe or a dot fills one latent of 8x8 pixels.
PERIOD = 16


def draw(scene: Scene, rng: np.random.Generator) -> Picture:
    """The scene in its style; `rng` gives the shade of each colour and the style's irregularities."""
    x, y = _canvas(scene, rng)
    canvas = np.broadcast_to(paint(scene.background, scene.style, ground=True) + rng.normal(0, 2.5, 3), (SIDE, SIDE, 3))
    canvas = canvas.astype(np.float32)
    for thing in scene.things:
        _add(canvas, thing, scene.style, rng, x, y)
    if scene.style == "watercolour":
        canvas = canvas + 7 * _cloud(rng, 9)[..., None]
    return np.clip(canvas.round(), 0, 255).astype(np.uint8)


def pattern(texture: str) -> NDArray[np.bool_]:
    """Where the tint lies in one period: (16, 16)."""
    row, column = np.indices((PERIOD, PERIOD))
    if texture == "striped":
        return column >= PERIOD // 2
    if texture == "checked":  # the light squares lie where no dot does: so blocks tell them apart as well
        squares: NDArray[np.bool_] = row // 8 != column // 8
        return squares
    if texture == "dotted":
        near = np.hypot(row % 8 - 3.5, column % 8 - 3.5) < 3.6
        dots: NDArray[np.bool_] = near & (row // 8 == column // 8)
        return dots
    return np.zeros((PERIOD, PERIOD), dtype=bool)


def in_blocks(marks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The same in pixel art: each block as its middle is."""
    half = BLOCK // 2
    return marks[half::BLOCK, half::BLOCK].repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)


def _add(canvas: Field, thing: Thing, style: str, rng: np.random.Generator, x: Field, y: Field) -> None:
    distance = thing.radius * shape_of(thing.shape)((x - thing.x) / thing.radius, (y - thing.y) / thing.radius)
    colour = paint(thing.colour, style, ground=False) + rng.normal(0, 2.5, 3).astype(np.float32)
    surface = np.where(_texture(thing.texture, style)[..., None], tint(thing.colour, colour), colour)
    if style == "watercolour":
        surface = surface * (1 - 0.2 * np.exp(-((distance + 1.5) ** 2) / 4))[..., None]  # pigment gathers at the rim
    if style == "sketch":
        inside = np.clip(0.5 - (distance + 3.0), 0, 1)[..., None]
        surface = inside * surface + (1 - inside) * INK
    cover = np.clip(0.5 - distance, 0, 1)[..., None] if style != "pixel" else (distance < 0)[..., None]
    canvas[:] = cover * surface + (1 - cover) * canvas


def _canvas(scene: Scene, rng: np.random.Generator) -> tuple[Field, Field]:
    """Coordinates (x, y) of the pixels' middles: in blocks for pixel art, bent for watercolour."""
    x, y = _grid(BLOCK if scene.style == "pixel" else 1)
    if scene.style == "watercolour":
        return x + 1.6 * _cloud(rng, 9), y + 1.6 * _cloud(rng, 9)
    return x, y


@cache
def _grid(block: int) -> tuple[Field, Field]:
    axis = (np.arange(SIDE) // block * block + block / 2).astype(np.float32)
    x, y = np.meshgrid(axis, axis)
    return x, y


@cache
def _texture(texture: str, style: str) -> NDArray[np.bool_]:
    whole = np.tile(pattern(texture), (SIDE // PERIOD, SIDE // PERIOD))
    if style != "pixel":
        return whole
    return in_blocks(whole)


def _cloud(rng: np.random.Generator, points: int) -> Field:
    """Smooth noise (128, 128) of deviation about 0.7: random values on a coarse grid, blended between."""
    blend = _blend(points)
    return blend @ rng.normal(0, 1, (points, points)).astype(np.float32) @ blend.T


@cache
def _blend(points: int) -> Field:
    """Linear interpolation from `points` values to the pixels: (128, points)."""
    at = np.linspace(0, points - 1, SIDE)[:, None]
    return np.clip(1 - abs(at - np.arange(points)), 0, 1).astype(np.float32)
