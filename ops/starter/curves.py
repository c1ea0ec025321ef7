"""Loss curves: the CSV files of all stages as one picture, and what they say in numbers."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

_WIDTH, _HEIGHT, _MARGIN = 480, 300, 44  # pixels of one stage's plot
_INK, _LINE, _GRID = (40, 40, 45), (40, 80, 200), (225, 225, 225)


@dataclass(frozen=True)
class Curve:
    """One stage: steps, seconds and losses, row by row."""

    name: str
    steps: list[int]
    seconds: list[float]
    losses: list[float]

    @property
    def summary(self) -> str:
        """One row of the card's table."""
        return f"| {self.name} | {self.steps[-1]} | {self.seconds[-1] / 60:.0f} | {np.mean(self.losses[-8:]):.4f} |"


def read_curve(path: Path) -> Curve:
    """The curve of a stage. Where a stage was interrupted, the rows after its checkpoint were written twice: the later
    ones count.
    """
    with path.open(newline="") as file:
        rows = {int(row["step"]): (float(row["seconds"]), float(row["loss"])) for row in csv.DictReader(file)}
    steps = sorted(rows)
    return Curve(path.stem, steps, [rows[step][0] for step in steps], [rows[step][1] for step in steps])


def plot(curves: list[Curve]) -> Image.Image:
    """All stages side by side; losses on a logarithmic axis."""
    sheet = Image.new("RGB", (_WIDTH * len(curves), _HEIGHT), "white")
    for index, curve in enumerate(curves):
        sheet.paste(_plot_one(curve), (index * _WIDTH, 0))
    return sheet


def _plot_one(curve: Curve) -> Image.Image:
    image = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    pen = ImageDraw.Draw(image)
    logs = np.log10(np.maximum(curve.losses, 1e-6))
    low, high = np.floor(logs.min() * 10) / 10, np.ceil(logs.max() * 10) / 10
    x = _MARGIN + (np.array(curve.steps) / curve.steps[-1]) * (_WIDTH - 1.5 * _MARGIN)

    def down(value: float) -> float:
        return float(_HEIGHT - _MARGIN - (value - low) / max(high - low, 0.1) * (_HEIGHT - 2 * _MARGIN))

    for value in np.linspace(low, high, 5):
        pen.line([(_MARGIN, down(value)), (_WIDTH - _MARGIN / 2, down(value))], fill=_GRID)
        pen.text((4, down(value) - 6), f"{10**value:.3f}", fill=_INK)
    pen.line([(float(a), down(float(b))) for a, b in zip(x, logs, strict=True)], fill=_LINE, width=2)
    pen.text(
        (_MARGIN, 12), f"{curve.name}: loss over {curve.steps[-1]} steps, {curve.seconds[-1] / 60:.0f} min", fill=_INK
    )
    return image
