"""Colours: of the vocabulary, in each style, and of the marks of textures."""

import numpy as np
from numpy.typing import NDArray

Paint = NDArray[np.float32]

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "orange": (245, 135, 25),
    "yellow": (252, 220, 60),
    "green": (50, 155, 75),
    "cyan": (75, 205, 215),
    "blue": (40, 80, 200),
    "purple": (125, 55, 170),
    "pink": (248, 150, 195),
    "black": (30, 30, 35),
    "white": (248, 248, 245),
}
#: What the model was never shown, and a LoRA that comes with it teaches. The autoencoder was not shown it either, but
#: keeps it well beside every other colour; of brown, say, it makes red and green.
TAUGHT_COLOURS = {"rose": (222, 86, 130)}
_ALL = COLOURS | TAUGHT_COLOURS
#: The pencil of sketches.
INK = np.array([45.0, 45.0, 50.0], dtype=np.float32)
_PAPER = np.array([250.0, 250.0, 248.0], dtype=np.float32)
#: How much of the paper each style lets through: in the background, and in things.
_PALE = {"flat": (0.0, 0.0), "pixel": (0.0, 0.0), "watercolour": (0.22, 0.22), "sketch": (0.5, 0.25)}
_LIGHT = ("yellow", "white")


def paint(colour: str, style: str, *, ground: bool) -> Paint:
    """RGB (3,) in 0…255 of a colour's name in a style, on the ground or on a thing."""
    share = _PALE[style][0 if ground else 1]
    return (1 - share) * np.array(_ALL[colour], dtype=np.float32) + share * _PAPER


def tint(colour: str, shade: Paint) -> Paint:
    """RGB of the marks on a thing whose colour has this name and shade: paler, on pale things darker."""
    return 0.5 * shade if colour in _LIGHT else 0.3 * shade + 0.7 * _PAPER


def stands_out(colour: str, background: str) -> bool:
    """Whether marks on a thing of this colour are seen as marks, not as holes through which the background shows."""
    marks, ground = tint(colour, paint(colour, "flat", ground=False)), paint(background, "flat", ground=True)
    return float(np.linalg.norm(marks - ground)) > 75
