"""Shapes as signed distances: negative inside, in units of the shape's radius, over coordinates (u right, v down)."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]
Shape = Callable[[Field, Field], Field]


def _circle(u: Field, v: Field) -> Field:
    return np.hypot(u, v) - 0.95


def _square(u: Field, v: Field) -> Field:
    return np.maximum(abs(u), abs(v)) - 0.84


def _diamond(u: Field, v: Field) -> Field:
    return (abs(u) + abs(v) - 1.08) / 2**0.5


def _triangle(u: Field, v: Field) -> Field:
    """Point up: the base at v = 0.8, the tip at v = -1."""
    distance: Field = np.maximum(v - 0.8, (1.8 * abs(u) - (v + 1.0)) / np.hypot(1.8, 1.0))
    return distance


def _star(u: Field, v: Field) -> Field:
    """Five points, one up: one half of a point, folded ten times around the middle."""
    step = np.pi / 5
    angle = abs((np.arctan2(u, -v) + step) % (2 * step) - step)
    radius = np.hypot(u, v)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    inner = 0.45
    dx, dy = inner * np.cos(step) - 1.05, inner * np.sin(step)  # from the tip to the notch
    distance: Field = ((x - 1.05) * dy - y * dx) / np.hypot(dx, dy)
    return distance


def _heart(u: Field, v: Field) -> Field:
    """A square on its corner and two circles over its upper sides."""
    d = 0.84
    v = v - 0.08
    lobes = np.hypot(abs(u) - d / 2, v + d / 2) - d / 2**0.5
    distance: Field = np.minimum(lobes, (abs(u) + abs(v) - d) / 2**0.5)
    return distance


def _ring(u: Field, v: Field) -> Field:
    return abs(np.hypot(u, v) - 0.72) - 0.25


def _cross(u: Field, v: Field) -> Field:
    long, short = np.maximum(abs(u), abs(v)), np.minimum(abs(u), abs(v))
    distance: Field = np.maximum(long - 0.95, short - 0.33)
    return distance


def _moon(u: Field, v: Field) -> Field:
    """A crescent open to the right."""
    u = u - 0.18
    distance: Field = np.maximum(np.hypot(u, v) - 1.0, 0.8 - np.hypot(u - 0.5, v))
    return distance


def _hourglass(u: Field, v: Field) -> Field:
    """Two triangles that meet in a neck."""
    distance: Field = np.maximum(abs(v) - 0.9, (abs(u) - 0.8 * abs(v) - 0.1) / np.hypot(1, 0.8))
    return distance


SHAPES: dict[str, Shape] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "diamond": _diamond,
    "star": _star,
    "heart": _heart,
    "ring": _ring,
    "cross": _cross,
    "moon": _moon,
}
#: What the model was never shown, and a LoRA teaches.
TAUGHT_SHAPES: dict[str, Shape] = {"hourglass": _hourglass}


def shape_of(name: str) -> Shape:
    """The field of a shape's name."""
    return SHAPES.get(name) or TAUGHT_SHAPES[name]


@cache
def extent(shape: str) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the shape, in radii from its middle."""
    axis = np.linspace(-1.3, 1.3, 521, dtype=np.float32)
    inside = shape_of(shape)(axis[None, :], axis[:, None]) <= 0
    columns, rows = axis[inside.any(0)], axis[inside.any(1)]
    return float(columns[0]), float(rows[0]), float(columns[-1]), float(rows[-1])
