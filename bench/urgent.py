"""Interactive pictures while bulk is in flight everywhere: `python -m bench.urgent [--minutes N] [--every S ...]`.

One worker with the model that comes with Darkroom. Bulk is never short of work, and windows in which it is alone take
turns with those in which interactive pictures come: its pace is that of the rows which the denoiser is asked for.
"""

import argparse
import math
import random
import signal
import socket
import statistics
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

from prometheus_client.parser import text_string_to_metric_families

from bench.serving.asks import Ask, make_asks
from bench.serving.darkroom_side import DarkroomSide
from bench.serving.program import SideFailed
from bench.serving.run import Options, ready_model, tell
from bench.serving.side import Setup
from bench.table import Row, show

MINUTES = 4.0
EVERY = (10.0, 2.0)  # seconds between two interactive pictures, on average
MARKED = 10.0  # the pause of those for which the marks are
SIZE, STEPS, ROWS = 128, 20, 2  # rows of a call under guidance
IN_FLIGHT = 14  # bulk jobs that wait or run
ALONE, IDLE = 0.3, 0.15  # of the time: windows of bulk alone; pictures on an idle worker
WARM_SECONDS, EMPTY_SECONDS = 5.0, 6.0  # until bulk is in all places and out of step; until none is
ROUNDS = 2
SLOWER, FEWER = 1.5, 0.95


class Worker(DarkroomSide):
    """Darkroom's worker, and what was asked of it and is not done."""

    def __init__(self, setup: Setup, port: int) -> None:
        super().__init__("darkroom", setup)
        self._port = port
        self._prompts = cycle(make_asks(1620, (SIZE,), (STEPS,)))
        self.bulk: set[str] = set()
        self.urgent: dict[str, float] = {}
        self.latencies: list[float] = []

    def ask(self, lane: str) -> None:
        """One picture more."""
        began = time.perf_counter()
        request = self.request(self._next()).model_copy(update={"lane": lane})
        job = self._client.submit(request).id
        if lane == "bulk":
            self.bulk.add(job)
        else:
            self.urgent[job] = began

    def listen(self, seconds: float, bulk: int) -> None:
        """Hears of what is done for so long, and keeps so many bulk jobs waiting or running."""
        deadline = time.perf_counter() + seconds
        while True:
            while len(self.bulk) < bulk:
                self.ask("bulk")
            left = deadline - time.perf_counter()
            heard = self.hear(max(0.0, left)) if left > 0 else None
            if heard is None:
                return
            self.bulk.discard(heard.token)
            if heard.token in self.urgent:
                self.latencies.append(heard.time - self.urgent.pop(heard.token))
                if not self.urgent and not bulk:
                    return

    def rows(self) -> float:
        """That the denoiser was asked for until now."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics") as answer:
            found = text_string_to_metric_families(answer.read().decode())
        return sum(
            sample.value for family in found for sample in family.samples if sample.name == "darkroom_rows_total"
        )

    def _next(self) -> Ask:
        return next(self._prompts)


@dataclass
class Found:
    """What was measured beside each other: a picture on an idle worker (seconds), bulk alone (pictures a second).

    By the pause between them, pictures beside bulk against those, and bulk against itself alone.
    """

    idle: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    slower: dict[float, list[float]] = field(default_factory=dict)
    pace: dict[float, list[float]] = field(default_factory=dict)


def measure() -> list[Row]:
    """The marks."""
    return rows_of(run(MINUTES, EVERY, {}))


def run(minutes: float, every: Sequence[float], settings: Mapping[str, str]) -> Found:
    """Measures for about so long. Raises SideFailed."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        port = _free_port()
        setup = Setup(ready_model("starter", Options(folder, folder)), settings={"metrics_port": str(port), **settings})
        with Worker(setup, port) as worker:
            return _Measurement(worker, minutes * 60).run(every)


class _Measurement:
    def __init__(self, worker: Worker, seconds: float) -> None:
        self._worker, self._seconds, self._found = worker, seconds, Found()
        self._draw = random.Random(0)

    def run(self, every: Sequence[float]) -> Found:
        self._worker.ask("interactive")
        self._worker.listen(60.0, bulk=0)  # the first makes connections
        self._worker.latencies.clear()
        windows = [pause for pause in every for _ in range(ROUNDS)]
        parts = len(windows) + 1
        left = self._seconds * (1 - IDLE - ALONE) - parts * (WARM_SECONDS + EMPTY_SECONDS)
        whole = sum(map(_length, windows))
        idle = [self._idle(self._seconds * IDLE / parts)]
        for pause in windows:
            self._worker.listen(WARM_SECONDS, bulk=IN_FLIGHT)
            alone = [self._window(self._seconds * ALONE / parts / 2, None)]
            pace = self._window(left * _length(pause) / whole, pause)
            taken = self._taken()
            alone.append(self._window(self._seconds * ALONE / parts / 2, None))
            while self._worker.bulk:
                self._worker.listen(0.2, bulk=0)
            idle.append(self._idle(self._seconds * IDLE / parts))
            beside = statistics.mean(idle[-2:])  # the machine's mood changes within minutes
            self._found.slower.setdefault(pause, []).extend(seconds / beside for seconds in taken)
            self._found.pace.setdefault(pause, []).append(pace / statistics.mean(alone))
            self._found.alone += alone
        return self._found

    def _idle(self, seconds: float) -> float:
        """The median of pictures one after the other."""
        deadline = time.perf_counter() + seconds
        while time.perf_counter() < deadline:
            self._worker.ask("interactive")
            self._worker.listen(60.0, bulk=0)
        found = self._taken()
        self._found.idle += found
        return statistics.median(found)

    def _window(self, seconds: float, pause: float | None) -> float:
        """Pictures a second of bulk, while interactive ones come: as many as are to be expected in about this time."""
        worker, count = self._worker, 0
        if pause is not None:
            count = max(1, round(seconds / pause))
            seconds = count * pause
        due = sorted(self._draw.uniform(0, seconds) for _ in range(count))
        began, rows = time.perf_counter(), worker.rows()
        for at in due:
            worker.listen(began + at - time.perf_counter(), bulk=IN_FLIGHT)
            worker.ask("interactive")
        worker.listen(began + seconds - time.perf_counter(), bulk=IN_FLIGHT)
        while worker.urgent:
            worker.listen(0.1, bulk=IN_FLIGHT)
        took = time.perf_counter() - began
        done = (worker.rows() - rows) / (STEPS * ROWS) - count
        tell(f"{'bulk alone' if pause is None else f'one every {pause:g} s'}: {done / took:.2f} bulk pictures/s")
        return done / took

    def _taken(self) -> list[float]:
        found, self._worker.latencies = self._worker.latencies, []
        tell(f"interactive: {' '.join(f'{seconds:.2f}' for seconds in found)}")
        return found


def _length(pause: float) -> float:
    """Rare pictures need longer windows for as much to be known of them."""
    return math.sqrt(pause)


def rows_of(found: Found) -> list[Row]:
    """The table."""
    idle = statistics.median(found.idle)
    rows = [
        Row(f"an interactive picture on an idle worker: median of {len(found.idle)}", f"{idle:.3f} s"),
        Row("bulk alone", f"{statistics.mean(found.alone):.2f} pictures/s"),
    ]
    for pause, taken in found.slower.items():
        slower, pace = statistics.median(taken), statistics.mean(found.pace[pause])
        at, marked = f"bulk in flight, an interactive picture every {pause:g} s", pause == MARKED
        rows += [
            Row(f"{at}: median of {len(taken)} to idle", f"{slower:.2f}", f"<= {SLOWER}" if marked else "",
                slower <= SLOWER or not marked),
            Row("the same: bulk to bulk alone", f"{pace:.3f}", f">= {FEWER}" if marked else "",
                pace >= FEWER or not marked),
        ]  # fmt: skip
    return rows


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def main() -> int:
    """Exit code 1 where a mark is missed or the worker failed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that no worker is left behind
    parser = argparse.ArgumentParser(prog="python -m bench.urgent", description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"about so long in all; {MINUTES:g}")
    parser.add_argument("--every", type=float, nargs="+", default=EVERY, metavar="SECONDS", help="between two pictures")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings of the worker")
    asked = parser.parse_args()
    try:
        found = run(asked.minutes, asked.every, dict(pair.split("=", 1) for pair in asked.set))
    except SideFailed as error:
        tell(str(error))
        return 1
    table = rows_of(found)
    show(table)
    return 0 if all(row.met for row in table) else 1


if __name__ == "__main__":
    sys.exit(main())
