"""The CPU marks within a minute: Darkroom beside the stock worker, in turn, with the model that comes with it."""

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from bench.serving.asks import Load, make_asks
from bench.serving.cells import CELLS, IN_FLIGHT, Cell, tiny
from bench.serving.drive import SideSilent, drive
from bench.serving.model import Model, Wish
from bench.serving.run import Options, prepare, tell, warm
from bench.serving.side import Setup, Side
from bench.serving.sides import make_side
from bench.table import Row
from darkroom.tasks.catalogue import HubSource, load_catalogue
from darkroom.worker.lockfile import LOCAL
from darkroom.worker.places import folder_of
from darkroom.worker.settings import WorkerSettings

SECONDS = 54.0  # in all; what is left of the minute is for stopping
ALONE, MOST_ALONE = 3, 30  # pictures one at a time before each load of many, and in all
FEWEST_STEPS = 4


@dataclass
class _Found:
    """Seconds: of single pictures, and of loads of IN_FLIGHT."""

    alone: list[float] = field(default_factory=list)
    many: list[float] = field(default_factory=list)


def quick(model: str, options: Options) -> list[Row]:
    """The two marks and what they are made of. Raises SideFailed."""
    began = time.monotonic()
    ready = _ready(model, options)
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
        found = _rounds(sides, cell, lambda: SECONDS - (time.monotonic() - began))
    return _rows(model, found["stock"], found["darkroom"])


def _ready(name: str, options: Options) -> Model:
    """Of a model that lies in a folder all is known at once."""
    settings = WorkerSettings()
    entry = load_catalogue(settings.catalogue).get(name)
    if entry is None or isinstance(entry.source, HubSource):
        return prepare(Wish(name=name, cache=options.cache, device="cpu", threads=options.threads))
    folder = folder_of(entry, settings, LOCAL)
    return Model(entry=entry, folder=folder, variant=None, device="cpu", dtype="float32")


def _rounds(sides: list[Side], cell: Cell, left: Callable[[], float]) -> dict[str, _Found]:
    """As many rounds as there is time for, at least one; fewer steps where even that would be too long."""
    found = {side.name: _Found() for side in sides}
    steps = _steps(sides[0], cell, left())
    size, longest, single = cell.sizes[0], 0.0, 0.0

    def alone(index: int) -> float:
        """A picture of each side; the seconds of both."""
        for side in _turn(sides, index):
            asks = make_asks(1, (size,), (steps,), index)
            found[side.name].alone.append(_seconds(side, Load(asks)))
        return sum(each.alone[-1] for each in found.values())

    while not found["stock"].many or left() > longest * 1.1:
        began = time.monotonic()
        number = len(found["stock"].many)
        single = max(alone(100 * number + index) for index in range(ALONE))
        for side in _turn(sides, number):
            asks = make_asks(IN_FLIGHT, (size,), (steps,), number)
            found[side.name].many.append(_seconds(side, Load(asks, in_flight=IN_FLIGHT)))
        longest = max(longest, time.monotonic() - began)
    while left() > 2 * single and len(found["stock"].alone) < MOST_ALONE:  # the finer mark gets what time is left
        alone(len(found["stock"].alone))
    return found


def _turn(sides: list[Side], number: int) -> list[Side]:
    """None is always the first."""
    return sides if number % 2 == 0 else sides[::-1]


def _steps(side: Side, cell: Cell, left: float) -> int:
    """Those of the cell, or as many as let a round end in `left` seconds; told from one picture."""
    steps = cell.steps[0]
    one = _seconds(side, Load(make_asks(1, cell.sizes[:1], (steps,))))
    fitting = int(steps * left / (one * 2 * (IN_FLIGHT + ALONE) * 1.2))
    if fitting >= steps:
        return steps
    tell(f"a slow machine: {max(FEWEST_STEPS, fitting)} steps instead of {steps}")
    return max(FEWEST_STEPS, fitting)


def _seconds(side: Side, load: Load) -> float:
    samples = drive(side, load)
    return max(sample.done for sample in samples) - min(sample.due for sample in samples)


def _rows(model: str, stock: _Found, ours: _Found) -> list[Row]:
    faster = statistics.median(theirs / own for theirs, own in zip(stock.many, ours.many, strict=True))
    later = statistics.median(own / theirs for theirs, own in zip(stock.alone, ours.alone, strict=True))
    alone, many = statistics.median(stock.alone), statistics.median(stock.many)
    return [
        Row(f"Celery + diffusers, {model}: alone; {IN_FLIGHT} in flight", f"{alone:.3f} s; {IN_FLIGHT / many:.2f} /s"),
        Row(f"Darkroom: throughput against it, {len(stock.many)} rounds", f"{faster:.3f}", ">= 1.0", faster >= 1.0),
        Row(
            f"Darkroom: latency alone against it, {len(ours.alone)} pictures", f"{later:.3f}", "<= 1.05", later <= 1.05
        ),
    ]
