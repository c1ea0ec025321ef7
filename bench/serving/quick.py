"""The CPU marks within a minute: Darkroom beside the stock worker, in turn, with the model that comes with it."""

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from bench.serving.asks import Load, make_asks
from bench.serving.cells import CELLS, IN_FLIGHT, Cell, tiny
from bench.serving.drive import SideSilent, drive
from bench.serving.run import Options, ready_model, tell, warm
from bench.serving.side import Setup, Side
from bench.serving.sides import make_side
from bench.table import Row

SECONDS = 54.0  # in all; what is left of the minute is for stopping
#: Pictures one at a time of each side. They have half the steps: the machine's mood changes within seconds, and more
#: pictures in the same time say more than long ones.
FEWEST_ALONE, MOST_ALONE = 3, 100
FEWEST_STEPS = 4


@dataclass
class _Found:
    """Seconds: of single pictures, and of a load of IN_FLIGHT."""

    alone: list[float] = field(default_factory=list)
    many: float = 0.0


def quick(model: str, options: Options) -> list[Row]:
    """The two marks and what they are made of. Raises SideFailed."""
    began = time.monotonic()
    ready = ready_model(model, options)
    cell = CELLS["cpu-16"]
    if model.startswith("tiny"):
        cell = tiny(cell, "cpu")
    setup = Setup(ready, threads=options.threads, settings=options.settings)
    with ExitStack() as up:
        stock = up.enter_context(make_side("stock", setup))
        stock.submit(make_asks(1, cell.sizes[:1], (1,)))  # it loads the model while the other starts
        sides = [stock, up.enter_context(make_side("darkroom", setup))]
        if stock.hear(SECONDS) is None:
            raise SideSilent(f"{stock.name}: no picture within {SECONDS:.0f} s")
        for side in sides:
            warm(side, cell.sizes, cell.in_flight)
        found = _loads(sides, cell, lambda: SECONDS - (time.monotonic() - began))
    return _rows(model, found["stock"], found["darkroom"])


def _loads(sides: list[Side], cell: Cell, left: Callable[[], float]) -> dict[str, _Found]:
    """A load of many for each side, then single pictures in turn as long as there is time: theirs is the finer mark."""
    found = {side.name: _Found() for side in sides}
    size, steps = cell.sizes[0], _steps(sides[0], cell, left())
    asks = make_asks(IN_FLIGHT, (size,), (steps,))
    for side in sides:
        found[side.name].many = _seconds(side, Load(asks, in_flight=IN_FLIGHT))
    for number in range(MOST_ALONE):
        began = time.monotonic()
        asks = make_asks(1, (size,), (max(FEWEST_STEPS, steps // 2),), number)
        for side in sides if number % 2 else sides[::-1]:  # none is always the first
            found[side.name].alone.append(_seconds(side, Load(asks)))
        if number + 1 >= FEWEST_ALONE and left() < 2 * (time.monotonic() - began):
            break
    return found


def _steps(side: Side, cell: Cell, left: float) -> int:
    """Those of the cell, or as many as let the loads end in `left` seconds; told from one picture."""
    steps = cell.steps[0]
    one = _seconds(side, Load(make_asks(1, cell.sizes[:1], (steps,))))
    fitting = int(steps * left / (one * 2 * (IN_FLIGHT + FEWEST_ALONE) * 1.2))
    if fitting >= steps:
        return steps
    tell(f"a slow machine: {max(FEWEST_STEPS, fitting)} steps instead of {steps}")
    return max(FEWEST_STEPS, fitting)


def _seconds(side: Side, load: Load) -> float:
    samples = drive(side, load)
    return max(sample.done for sample in samples) - min(sample.due for sample in samples)


def _rows(model: str, stock: _Found, ours: _Found) -> list[Row]:
    faster = stock.many / ours.many
    later = statistics.median(own / theirs for theirs, own in zip(stock.alone, ours.alone, strict=True))
    alone, many = statistics.median(stock.alone), IN_FLIGHT / stock.many
    return [
        Row(f"Celery + diffusers, {model}: alone; {IN_FLIGHT} in flight", f"{alone:.3f} s; {many:.2f} /s"),
        Row("Darkroom: throughput against it", f"{faster:.3f}", ">= 1.0", faster >= 1.0),
        Row(
            f"Darkroom: latency alone against it, {len(ours.alone)} pictures", f"{later:.3f}", "<= 1.05", later <= 1.05
        ),
    ]
