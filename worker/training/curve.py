"""The loss of a training by its steps, smoothed and drawn."""

from collections.abc import Sequence
from io import BytesIO

from PIL import Image, ImageDraw

SIZE, MARGIN = (640, 320), 40  # pixels
HALF_LIFE = 20  # steps after which an older loss counts half
KEPT = 0.5 ** (1 / HALF_LIFE)

_PAPER, _INK, _FAINT, _LINE = "#ffffff", "#444444", "#c9d6e8", "#1f5fa8"


class Smooth:
    """The exponential mean of what was added; the first ones weigh what they have, as Adam's moments do."""

    def __init__(self) -> None:
        self._sum = self._weight = 0.0

    def add(self, loss: float) -> float:
        """The mean with this one."""
        self._sum = KEPT * self._sum + (1 - KEPT) * loss
        self._weight = KEPT * self._weight + (1 - KEPT)
        return self._sum / self._weight


def smoothed(losses: Sequence[float]) -> list[float]:
    """The mean up to each step."""
    mean = Smooth()
    return [mean.add(loss) for loss in losses]


def curve_png(losses: Sequence[float]) -> bytes:
    """A PNG: each step's loss faintly, the smoothed one over it; steps from left to right, 0 at the bottom."""
    image = Image.new("RGB", SIZE, _PAPER)
    pen = ImageDraw.Draw(image)
    most = max(losses, default=1.0) or 1.0
    pen.line([(MARGIN, MARGIN), (MARGIN, SIZE[1] - MARGIN), (SIZE[0] - MARGIN, SIZE[1] - MARGIN)], fill=_INK)
    pen.text((4, MARGIN - 6), f"{most:.3g}", fill=_INK)
    pen.text((MARGIN, MARGIN // 2 - 6), "loss", fill=_INK)
    pen.text((4, SIZE[1] - MARGIN - 6), "0", fill=_INK)
    pen.text((SIZE[0] - MARGIN - 30, SIZE[1] - MARGIN + 8), f"step {len(losses)}", fill=_INK)
    for values, colour, width in ((losses, _FAINT, 1), (smoothed(losses), _LINE, 2)):
        pen.line(_points(values, most), fill=colour, width=width)
    written = BytesIO()
    image.save(written, "PNG")
    return written.getvalue()


def _points(values: Sequence[float], most: float) -> list[tuple[float, float]]:
    wide, high = (side - 2 * MARGIN for side in SIZE)
    last = max(1, len(values) - 1)
    return [(MARGIN + wide * at / last, SIZE[1] - MARGIN - high * value / most) for at, value in enumerate(values)]
