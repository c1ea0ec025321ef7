"""The order in which a worker reads its lanes: every interactive one before any bulk one, and within these by turns.

Lanes of jobs that need something come and go while it runs; Celery need not hear of them, the channel reads what is
named here (`worker/process/transport.py`).
"""

import threading
from collections.abc import Iterable, Sequence

import structlog

from darkroom.tasks.message import LANES
from darkroom.tasks.places import Has, Place, beside
from darkroom.tasks.redis_io import BlockingIO


class Turns:
    """Lanes by when they were last read from. Safe to share between threads; to kombu it is a cycle of queues."""

    def __init__(self, models: Sequence[str]) -> None:
        self.home = [Place(model, lane) for lane in LANES for model in models]
        self._order = list(self.home)
        self._lock = threading.Lock()

    def admit(self, places: Iterable[Place]) -> bool:
        """Reads these lanes besides those of the models, and no others; True where that is a change."""
        wanted = {*self.home, *(place for place in places if place.lane in LANES)}
        with self._lock:
            before = list(self._order)
            self._order = [place for place in before if place in wanted]
            self._order += sorted(wanted - {*before}, key=str)
            return len(self._order) != len(before) or {*before} != wanted

    def consume(self, _count: int) -> list[str]:
        """All queues; the first that has a message gives it."""
        with self._lock:
            return [place.queue for place in sorted(self._order, key=lambda place: LANES.index(place.lane))]

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
