"""Plots of the records with Pillow: throughput as bars, latency under open loads as lines."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from bench.serving.record import CellRecord
from bench.serving.report import percentile, rate
from bench.serving.sides import LABELS

WIDTH, ROW, LEFT, MARGIN = 900, 24, 330, 20  # pixels
PANEL = 340
INK, GRID = (40, 40, 45), (225, 225, 225)
COLOURS = {
    "stock": (120, 120, 130),
    "stock-compiled": (60, 60, 70),
    "batched": (220, 170, 60),
    "batched-compiled": (190, 120, 20),
    "darkroom": (60, 110, 210),
    "darkroom-compiled": (20, 60, 150),
}
FONT, SMALL = ImageFont.load_default(15), ImageFont.load_default(12)


def throughput(records: Sequence[CellRecord]) -> Image.Image | None:
    """A bar for each side of each closed load, as a share of the cell's fastest; None where there is none."""
    found = [record for record in records if record.kind == "flight" and any(record.sides.values())]
    if not found:
        return None
    lines = sum(1 + sum(map(bool, record.sides.values())) for record in found)
    sheet = Image.new("RGB", (WIDTH, lines * ROW + 2 * MARGIN), "white")
    pen, top = ImageDraw.Draw(sheet), MARGIN
    for record in found:
        pen.text((MARGIN, top), f"{record.cell}: pictures a second", INK, FONT)
        top += ROW
        rates = {side: rate(rounds) for side, rounds in record.sides.items() if rounds}
        for side, value in rates.items():
            _bar(pen, top, LABELS[side], value, value / max(rates.values()), COLOURS[side])
            top += ROW
    return sheet


def _bar(pen: ImageDraw.ImageDraw, top: int, label: str, value: float, share: float, colour: tuple[int, ...]) -> None:
    pen.text((MARGIN * 2, top), label, INK, SMALL)
    right = LEFT + share * (WIDTH - LEFT - 90)
    pen.rectangle((LEFT, top + 2, right, top + ROW - 6), fill=colour)
    pen.text((right + 8, top), f"{value:.3g}", INK, SMALL)


def latency(records: Sequence[CellRecord]) -> Image.Image | None:
    """A panel for each series of open loads: p90 of each side over the share of (a)'s capacity."""
    series: dict[str, list[CellRecord]] = {}
    for record in records:
        if record.kind == "open" and record.share is not None:
            series.setdefault(_stem(record), []).append(record)
    if not series:
        return None
    sheet = Image.new("RGB", (WIDTH, PANEL * len(series)), "white")
    for index, (stem, found) in enumerate(series.items()):
        _panel(ImageDraw.Draw(sheet), index * PANEL, stem, sorted(found, key=lambda record: record.share or 0.0))
    return sheet


def _panel(pen: ImageDraw.ImageDraw, top: int, stem: str, records: list[CellRecord]) -> None:
    lines = {side: _p90s(records, side) for side in dict.fromkeys(side for record in records for side in record.sides)}
    highest = max((value for points in lines.values() for _, value in points), default=1.0)
    floor, ceiling = top + PANEL - 50, top + 50
    left, right = 80, WIDTH - 260

    def place(share: float, value: float) -> tuple[float, float]:
        return left + share * (right - left), floor - value / highest * (floor - ceiling)

    pen.text((MARGIN, top + 14), f"{stem}: p90 of latency, seconds, over the share of (a)'s capacity", INK, FONT)
    for part in range(5):
        height = place(0, highest * part / 4)[1]
        pen.line((left, height, right, height), GRID)
        pen.text((MARGIN, height - 8), f"{highest * part / 4:.3g}", INK, SMALL)
    for record in records:
        share = record.share or 0.0
        pen.text((place(share, 0)[0] - 12, floor + 8), f"{share:.0%}", INK, SMALL)
    for index, (side, points) in enumerate(lines.items()):
        spots = [place(*point) for point in points]
        if len(spots) > 1:
            pen.line(spots, COLOURS[side], width=3)
        for x, y in spots:
            pen.ellipse((x - 4, y - 4, x + 4, y + 4), COLOURS[side])
        pen.text((right + 30, ceiling + index * ROW), LABELS[side], COLOURS[side], SMALL)


def _p90s(records: Sequence[CellRecord], side: str) -> list[tuple[float, float]]:
    found = []
    for record in records:
        latencies = [value for one in record.sides.get(side, []) for value in one.latencies]
        if latencies:
            found.append((record.share or 0.0, percentile(latencies, 0.9)))
    return found


def _stem(record: CellRecord) -> str:
    before, _, after = record.cell.partition("-poisson-")
    _, _, kind = after.partition("-")
    return f"{before}-{kind}" if kind else before
