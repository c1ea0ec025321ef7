"""The lanes whose knocks a worker reads: every interactive one before any bulk one, and within these by turns.

Which job is started the claim decides, among those of all lanes that are read.

One training at a time is enough for a model: while it goes on no other is taken.

Lanes of jobs that need something come and go while it runs; Celery need not hear of them, the channel reads what is
named here (`worker/process/transport.py`).
"""

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import structlog

from darkroom.tasks.message import LANES, TRAINING
from darkroom.tasks.places import Has, Place, beside
from darkroom.tasks.redis_io import BlockingIO


class Turns:
    """Lanes by when they were last read from. Safe to share between threads; to kombu it is a cycle of queues."""

    def __init__(self, models: Sequence[str], lanes: Sequence[str] = LANES) -> None:
        self._lanes = lanes
        self.home = [Place(model, lane) for lane in LANES if lane in lanes for model in models]
        self._order = list(self.home)
        self._training = 0
        self._running = Counter[str]()  # by class of lane
        self._lock = threading.Condition()

    def admit(self, places: Iterable[Place]) -> bool:
        """Reads these lanes besides those of the models, and no others; True where that is a change."""
        wanted = {*self.home, *(place for place in places if place.lane in self._lanes)}
        with self._lock:
            before = list(self._order)
            self._order = [place for place in before if place in wanted]
            self._order += sorted(wanted - {*before}, key=str)
            return len(self._order) != len(before) or {*before} != wanted

    def places(self) -> list[Place]:
        """Those from which a job can be started now."""
        with self._lock:
            able = [place for place in self._order if not (self._training and place.lane == TRAINING)]
            return sorted(able, key=lambda place: LANES.index(place.lane))

    def urgent(self) -> list[Place]:
        """The interactive ones of them."""
        return [place for place in self.places() if place.lane == LANES[0]]

    def wait_for_others(self, count: int, seconds: float) -> bool:
        """Whether so many jobs run, and not all of them are interactive; waits for that for so long."""
        with self._lock:
            return self._lock.wait_for(lambda: self._running.total() >= count > self._running[LANES[0]], seconds)

    def consume(self, _count: int) -> list[str]:
        """All queues; the first that has a message gives it."""
        return [place.queue for place in self.places()]

    @contextmanager
    def running(self, lane: str) -> Iterator[bool]:
        """A job of this lane runs in the context; False where it has to wait for another one."""
        mine = lane == TRAINING
        with self._lock:
            first = not (mine and self._training)
            self._training += mine
            self._running[lane] += 1
            self._lock.notify_all()
        try:
            yield first
        finally:
            with self._lock:
                self._training -= mine
                self._running[lane] -= 1

    def rotate(self, last_used: str) -> None:
        """The lane that gave a message is the last of its class now."""
        with self._lock:
            self._order.sort(key=lambda place: place.queue == last_used)

    def update(self, queues: Iterable[str]) -> None:
        """Nothing: what Celery consumes is `home`, for good."""


class Lookout:
    """Looks for the lanes with needs that this worker can serve."""

    def __init__(self, io: BlockingIO, turns: Turns, has: Has) -> None:
        self._io, self._turns, self._has = io, turns, has

    def look(self) -> None:
        """Once. Raises QueueError."""
        found = self._io.run(beside(self._has))
        if self._turns.admit(found):
            structlog.get_logger().info("lanes.read", lanes=[str(place) for place in found])
