"""Runs a cell: the model prepared, the sides started and warmed, rounds driven and written down one by one."""

import math
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench.serving.asks import Ask, Load, Shape, arrivals, make_asks
from bench.serving.cells import Cell
from bench.serving.darkroom_side import DarkroomSide
from bench.serving.drive import Sample, SideSilent, drive
from bench.serving.machine import this_machine
from bench.serving.model import Model, Wish, shape_name
from bench.serving.program import SideFailed
from bench.serving.record import CellRecord, Round, load_record
from bench.serving.side import Setup, Side
from bench.serving.sides import ADAPTED, make_side
from bench.serving.watch import Watch
from darkroom.tasks.catalogue import HubSource, load_catalogue
from darkroom.worker.models.lockfile import LOCAL
from darkroom.worker.models.places import folder_of
from darkroom.worker.settings import WorkerSettings

WARM_STEPS = 2
LORAS = 8


@dataclass(frozen=True)
class Options:
    """`out` for records, `cache` for models that are made here; `threads` 0: all cores; `minutes` of one run."""

    out: Path
    cache: Path
    threads: int = 0
    minutes: float = 7.5
    again: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)


class Unfinished(Exception):
    """The time of one run is up; the next one goes on from here."""


def run_cell(cell: Cell, options: Options) -> CellRecord:
    """The cell's record, complete. Raises Unfinished, SideFailed, SideSilent."""
    found = None if options.again else load_record(options.out, cell.name)
    asked = (options.threads, dict(options.settings))
    if found and found.complete and found.sides.keys() >= set(cell.sides) and asked == (found.threads, found.settings):
        return found
    deadline = time.monotonic() + options.minutes * 60
    run = _Run(cell, prepare(_wish([cell], options)), options, deadline)
    (run.together if cell.interleaved else run.in_turn)()
    return run.record


def run_cells(cells: Sequence[Cell], options: Options) -> list[CellRecord]:
    """The records of several cells of one model, in their order; each side is started once, and all are up together.

    Sides that compile start at the same time, the others one by one after them; the minutes count from then on. One
    that fails to start is told of and left out. Raises as `run_cell`.
    """
    model = prepare(_wish(cells, options))
    sizes = tuple(dict.fromkeys(size for cell in cells for size in cell.sizes))
    runs = [_Run(cell, model, options, math.inf, sizes) for cell in cells]
    names = list(dict.fromkeys(name for cell in cells for name in cell.sides))
    with ExitStack() as up:
        sides: dict[str, Side] = {}

        def start(name: str) -> None:
            try:
                side = up.enter_context(runs[0].side(name))
                look = warm(side, sizes, max(cell.in_flight for cell in cells))
            except (SideFailed, SideSilent) as error:
                tell(f"{name} is left out: {error}")
                return
            sides[name] = side
            for run in runs:
                run.record.looks |= {name: look} if name in run.cell.sides else {}

        compiled = [name for name in names if "compiled" in name]
        with ThreadPoolExecutor(max(1, len(compiled))) as pool:
            list(pool.map(start, compiled))
        for name in names:
            if name not in compiled:
                start(name)
        deadline = time.monotonic() + options.minutes * 60
        for run in runs:
            run.deadline = deadline
            run.rounds([sides[name] for name in run.cell.sides if name in sides])
    return [run.record for run in runs]


def trace_cell(cell: Cell, options: Options) -> Path:
    """Some of the cell's pictures by Darkroom's worker under a profiler; the trace's file. Raises as `run_cell`."""
    model = prepare(_wish([cell], options).model_copy(update={"shapes": ()}))
    name = next(name for name in cell.sides if name.startswith("darkroom"))
    setup = Setup(model, threads=options.threads, traced=True, settings=options.settings, sizes=cell.sizes)
    path = options.out / "traces" / f"{cell.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with DarkroomSide(name, setup, compiled="compiled" in name) as side:
        warm(side, cell.sizes, cell.in_flight)
        tracer = side.tracer()
        tracer.begin()
        drive(side, Load(make_asks(max(4, 2 * cell.in_flight), cell.sizes, cell.steps), in_flight=cell.in_flight))
        tracer.end(path)
    return path


def prepare(wish: Wish) -> Model:
    """In a process of its own, so that nothing of it is in memory while sides are measured."""
    command = [sys.executable, "-m", "bench.serving.prepare", wish.model_dump_json()]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the model {wish.name} could not be made ready")
    return Model.model_validate_json(done.stdout.splitlines()[-1])


def ready_model(name: str, options: Options) -> Model:
    """One for the CPU. Of a model that lies in a folder all is known at once; others are prepared."""
    settings = WorkerSettings()
    entry = load_catalogue(settings.catalogue).get(name)
    if entry is None or isinstance(entry.source, HubSource):
        return prepare(Wish(name=name, cache=options.cache, device="cpu", threads=options.threads))
    folder = folder_of(entry, settings, LOCAL)
    return Model(entry=entry, folder=folder, variant=None, device="cpu", dtype="float32")


def _wish(cells: Sequence[Cell], options: Options) -> Wish:
    shapes: list[Shape] = []
    for cell in cells:
        if cell.kind != "gap":
            shapes += [(size, size, steps) for size in cell.sizes for steps in cell.steps]
    one, unique = cells[0], tuple(dict.fromkeys(shapes))
    loras = LORAS if any(set(cell.sides) & set(ADAPTED) for cell in cells) else 0
    return Wish(
        name=one.model, cache=options.cache, device=one.device, threads=options.threads, shapes=unique, loras=loras
    )


def _record(cell: Cell, model: Model, options: Options) -> CellRecord:
    return CellRecord(
        cell=cell.name,
        kind=cell.kind,
        model=cell.model,
        device=model.device,
        dtype=model.dtype,
        machine=this_machine(),
        threads=options.threads,
        settings=dict(options.settings),
        sizes=list(cell.sizes),
        steps=list(cell.steps),
        ceiling=model.ceiling,
        wanted=cell.rounds,
        share=cell.share or None,
        sides={side: [] for side in cell.sides},
    )


class _Run:
    """One cell, and its record as far as it is; goes on with the one on disk if it can."""

    def __init__(
        self, cell: Cell, model: Model, options: Options, deadline: float, sizes: tuple[int, ...] = ()
    ) -> None:
        self.cell, self._model, self._options, self.deadline = cell, model, options, deadline
        fresh = _record(cell, model, options)
        found = None if options.again else load_record(options.out, cell.name)
        self.record = found if found and found.goes_on(fresh) else fresh
        self._longest = 0.0
        self._setup = Setup(
            model, threads=options.threads, free=cell.kind == "gap", settings=options.settings,
            sizes=sizes or cell.sizes,
        )  # fmt: skip

    def side(self, name: str) -> Side:
        """By its name; not started."""
        return make_side(name, self._setup)

    def together(self) -> None:
        """All sides are up."""
        with ExitStack() as up:
            sides = [up.enter_context(self.side(name)) for name in self.cell.sides]
            for side in sides:
                self.warm(side)
            self.rounds(sides)

    def rounds(self, sides: list[Side]) -> None:
        """They take rounds in turn: the machine's mood hits them alike."""
        fewest = min(map(len, self.record.sides.values()))
        for rounds in self.record.sides.values():
            del rounds[fewest:]  # of a turn that was cut off
        for number in range(fewest, self.record.wanted):
            for side in sides if number % 2 else sides[::-1]:  # none is always the first
                self._round(side)

    def in_turn(self) -> None:
        """One side is up at a time: each has the device's memory for itself."""
        for name in self.cell.sides:
            if len(self.record.sides[name]) >= self.cell.rounds:
                continue
            began = self._check_time()
            with self.side(name) as side:
                self.warm(side)
                while len(self.record.sides[name]) < self.cell.rounds:
                    self._round(side)
            self._longest = max(self._longest, time.monotonic() - began)

    def warm(self, side: Side) -> None:
        """Before its first round."""
        self.record.looks[side.name] = warm(side, self.cell.sizes, self.cell.in_flight)

    def _check_time(self) -> float:
        now = time.monotonic()
        if now + self._longest > self.deadline:
            raise Unfinished
        return now

    def _round(self, side: Side) -> None:
        began = self._check_time()
        measure = self._gap if self.cell.kind == "gap" else partial(self._measure, load=self._load(side))
        with Watch(side.pid, gpu=self._model.device.startswith("cuda")) as watch:
            found = measure(side)
        found.rss, found.busy, found.gpu_memory = watch.rss, watch.busy, watch.gpu_memory
        self.record.sides[side.name].append(found)
        self.record.save(self._options.out)
        self._longest = max(self._longest, time.monotonic() - began)
        tell(f"{self.cell.name}, {side.name}: {len(found.samples)} pictures in {found.seconds:.1f} s")

    def _load(self, side: Side) -> Load:
        cell = self.cell
        asks = make_asks(cell.count, cell.sizes, cell.steps, seed=len(self.record.sides[side.name]))
        if cell.kind != "open":
            return Load(asks, in_flight=cell.in_flight, seconds=cell.seconds)
        if self.record.capacity is None:  # then this is the first side
            self.record.capacity = self._known_capacity() or self._measured_capacity(side)
        return Load(asks, due=arrivals(cell.share * self.record.capacity, cell.count), seconds=cell.seconds)

    def _measure(self, side: Side, load: Load) -> Round:
        return _round_of(drive(side, load), self._model.work)

    def _gap(self, side: Side) -> Round:
        """Many steps less few steps: what a step costs, without all that a picture costs once."""
        few, many = self.cell.steps
        loads = [make_asks(self.cell.count, self.cell.sizes, (steps,)) for steps in (few, many)]
        short, long = (self._measure(side, Load(asks, in_flight=self.cell.in_flight)) for asks in loads)
        return long.model_copy(update={"gap": (long.seconds - short.seconds) / (many - few)})

    def _known_capacity(self) -> float | None:
        """What the cell with a closed load found, on this machine."""
        found = load_record(self._options.out, self.cell.capacity_from)
        rounds = found.sides.get(self.cell.sides[0]) if found and found.machine == self.record.machine else None
        return rounds[0].rate if rounds else None

    def _measured_capacity(self, side: Side) -> float:
        asks = make_asks(16, self.cell.sizes, self.cell.steps)
        return self._measure(side, Load(asks, in_flight=4, seconds=30.0)).rate


def warm(side: Side, sizes: Sequence[int], in_flight: int) -> list[int]:
    """As many at a time as a model call may have, of every size, a few steps each; the first also loads or compiles.

    Returns the look of one of the pictures.
    """
    tell(f"{side.name}: starts")
    look: list[int] = []
    for size in sizes:
        for count in (1, max(2, in_flight)) if side.shares else (max(2, side.batch),):
            load = Load(make_asks(count, (size,), (WARM_STEPS,), seed=1), in_flight=in_flight)
            first = min(drive(side, load), key=lambda sample: sample.ask.seed)
            look = look or list(side.picture(first.token).convert("RGB").resize((8, 8)).tobytes())
    return look


def tell(line: str) -> None:
    """To whoever waits."""
    print(line, file=sys.stderr, flush=True)


def _round_of(samples: list[Sample], work: Mapping[str, float]) -> Round:
    def tflop(ask: Ask) -> float:
        return work.get(shape_name(*ask.shape), 0.0)

    return Round(
        samples=[(round(sample.due, 4), round(sample.done, 4)) for sample in samples],
        seconds=max(sample.done for sample in samples) - min(sample.due for sample in samples),
        tflop=sum(tflop(sample.ask) for sample in samples),
    )
