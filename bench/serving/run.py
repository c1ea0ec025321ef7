"""Runs a cell: the model prepared, the sides started and warmed, rounds driven and written down one by one."""

import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from bench.serving.asks import Ask, Load, Shape, arrivals, make_asks
from bench.serving.cells import Cell
from bench.serving.drive import Sample, drive
from bench.serving.machine import this_machine
from bench.serving.model import Model, Wish, shape_name
from bench.serving.record import CellRecord, Round, load_record
from bench.serving.side import Setup, Side
from bench.serving.sides import available, make_side
from bench.serving.watch import Watch, gpu_now

WARM_STEPS = 2


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
    cell = replace(cell, sides=tuple(filter(available, cell.sides)))
    found = None if options.again else load_record(options.out, cell.name)
    if found and found.complete and found.sides.keys() >= set(cell.sides):
        return found
    model = prepare(_wish(cell, options))
    fresh = _record(cell, model, options)
    record = found if found and found.goes_on(fresh) else fresh
    run = _Run(cell, model, record, options)
    (run.together if cell.interleaved else run.in_turn)()
    return record


def prepare(wish: Wish) -> Model:
    """In a process of its own, so that nothing of it is in memory while sides are measured."""
    command = [sys.executable, "-m", "bench.serving.prepare", wish.model_dump_json()]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the model {wish.name} could not be made ready")
    return Model.model_validate_json(done.stdout.splitlines()[-1])


def _wish(cell: Cell, options: Options) -> Wish:
    shapes: tuple[Shape, ...] = ()
    if cell.kind != "gap":
        shapes = tuple((size, size, steps) for size in cell.sizes for steps in cell.steps)
    return Wish(name=cell.model, cache=options.cache, device=cell.device, threads=options.threads, shapes=shapes)


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
    def __init__(self, cell: Cell, model: Model, record: CellRecord, options: Options) -> None:
        self._cell, self._model, self._record, self._options = cell, model, record, options
        self._gpu = model.device.startswith("cuda")
        self._gpu_before = gpu_now()[1] if self._gpu else 0.0
        self._deadline = time.monotonic() + options.minutes * 60
        self._longest = 0.0
        self._setup = Setup(model, options.threads, cell.kind == "gap", options.settings)

    def together(self) -> None:
        """All sides are up, and take rounds in turn: the machine's mood hits them alike."""
        fewest = min(map(len, self._record.sides.values()))
        for rounds in self._record.sides.values():
            del rounds[fewest:]  # of a turn that was cut off
        with ExitStack() as up:
            sides = [up.enter_context(make_side(name, self._setup)) for name in self._cell.sides]
            for side in sides:
                self._warm(side)
            while not self._record.complete:
                sides.reverse()  # none is always the first
                for side in sides:
                    self._round(side, alone=False)

    def in_turn(self) -> None:
        """One side is up at a time: each has the device's memory for itself."""
        for name in self._cell.sides:
            if len(self._record.sides[name]) >= self._cell.rounds:
                continue
            began = self._check_time()
            with make_side(name, self._setup) as side:
                self._warm(side)
                while len(self._record.sides[name]) < self._cell.rounds:
                    self._round(side, alone=True)
            self._longest = max(self._longest, time.monotonic() - began)

    def _warm(self, side: Side) -> None:
        self._record.looks[side.name] = warm(side, self._cell)

    def _check_time(self) -> float:
        now = time.monotonic()
        if now + self._longest > self._deadline:
            raise Unfinished
        return now

    def _round(self, side: Side, *, alone: bool) -> None:
        began = self._check_time()
        measure = self._gap if self._cell.kind == "gap" else partial(self._measure, load=self._load(side))
        with Watch(side.pid, gpu=self._gpu) as watch:
            found = measure(side)
        found.rss, found.busy = watch.rss, watch.busy
        if alone and watch.gpu_memory is not None:
            found.gpu_memory = watch.gpu_memory - self._gpu_before
        self._record.sides[side.name].append(found)
        self._record.save(self._options.out)
        self._longest = max(self._longest, time.monotonic() - began)
        tell(f"{side.name}: {len(found.samples)} pictures in {found.seconds:.1f} s")

    def _load(self, side: Side) -> Load:
        cell = self._cell
        asks = make_asks(cell.count, cell.sizes, cell.steps, seed=len(self._record.sides[side.name]))
        if cell.kind != "open":
            return Load(asks, in_flight=cell.in_flight, seconds=cell.seconds)
        if self._record.capacity is None:  # then this is the first side
            self._record.capacity = self._known_capacity() or self._measured_capacity(side)
        return Load(asks, due=arrivals(cell.share * self._record.capacity, cell.count), seconds=cell.seconds)

    def _measure(self, side: Side, load: Load) -> Round:
        return _round_of(drive(side, load), self._model.work)

    def _gap(self, side: Side) -> Round:
        """Many steps less few steps: what a step costs, without all that a picture costs once."""
        few, many = self._cell.steps
        loads = [make_asks(self._cell.count, self._cell.sizes, (steps,)) for steps in (few, many)]
        short, long = (self._measure(side, Load(asks, in_flight=self._cell.in_flight)) for asks in loads)
        return long.model_copy(update={"gap": (long.seconds - short.seconds) / (many - few)})

    def _known_capacity(self) -> float | None:
        """What the cell with a closed load found, on this machine."""
        found = load_record(self._options.out, self._cell.capacity_from)
        rounds = found.sides.get(self._cell.sides[0]) if found and found.machine == self._record.machine else None
        return rounds[0].rate if rounds else None

    def _measured_capacity(self, side: Side) -> float:
        asks = make_asks(16, self._cell.sizes, self._cell.steps)
        return self._measure(side, Load(asks, in_flight=4, seconds=30.0)).rate


def warm(side: Side, cell: Cell) -> list[int]:
    """As many at a time as will come, of every size, a few steps each; the first also loads or compiles.

    Returns the look of one of the pictures.
    """
    tell(f"{side.name}: starts")
    look: list[int] = []
    for size in cell.sizes:
        for count in (1, max(2, cell.in_flight)) if side.batch == 1 else (side.batch,):
            load = Load(make_asks(count, (size,), (WARM_STEPS,), seed=1), in_flight=cell.in_flight)
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
