"""Puts a load on a side and notes when each picture was due and when it was heard to be done."""

import time
from collections import deque
from dataclasses import dataclass

from bench.serving.asks import Ask, Load, units
from bench.serving.side import Side

PATIENCE = 300.0  # seconds without a word from a side that has work


class SideSilent(RuntimeError):
    """A side had work and was not heard of."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture: when it was to be asked for and when it was there, in seconds of the load."""

    due: float
    done: float
    ask: Ask
    token: str

    @property
    def latency(self) -> float:
        """In seconds; of an open load from the arrival, whatever kept the client from asking just then."""
        return self.done - self.due


def drive(side: Side, load: Load) -> list[Sample]:
    """Runs the load to its end. Raises SideFailed, SideSilent."""
    return _Drive(side, load).run()


class _Drive:
    def __init__(self, side: Side, load: Load) -> None:
        self._side, self._load = side, load
        self._left = deque(units(load.asks, side.batch))
        self._due = deque(load.due)
        self._open: dict[str, tuple[float, list[Ask]]] = {}
        self._asked = False  # whether anything was: no load is over before
        self._began = time.perf_counter()

    def run(self) -> list[Sample]:
        samples: list[Sample] = []
        while True:
            pause = self._pause()
            if pause is None:
                return samples
            if pause <= 0:
                self._submit()
            else:
                samples += self._hear(pause)

    def _pause(self) -> float | None:
        """Seconds until the next is to be asked for; None where all is done."""
        now = time.perf_counter() - self._began
        if not self._left or (self._asked and now > self._load.seconds):
            return PATIENCE if self._open else None
        if self._due:
            return self._due[0] - now
        flying = sum(len(asks) for _, asks in self._open.values())
        return 0.0 if not flying or flying + len(self._left[0]) <= self._load.in_flight else PATIENCE

    def _submit(self) -> None:
        asks, self._asked = self._left.popleft(), True
        now = time.perf_counter() - self._began
        due = self._due.popleft() if self._due else now
        self._open[self._side.submit(asks)] = due, asks

    def _hear(self, pause: float) -> list[Sample]:
        heard = self._side.hear(pause)
        if heard is None:
            if pause >= PATIENCE:
                raise SideSilent(f"{self._side.name}: nothing heard for {PATIENCE:.0f} s")
            return []
        due, asks = self._open.pop(heard.token)
        return [Sample(due, heard.time - self._began, ask, heard.token) for ask in asks]
