"""A model call that never comes back (a hung driver, a lost GPU): the process ends, its parent starts another.

Nothing less helps: a thread cannot be ended, and the device may need a new process. The parent gives the jobs to
others. In the same way a process ends that must be gone and is in a step that lasts longer than its time, and one whose
models do not get warm.
"""

import os
import time
from types import TracebackType
from typing import Self

import structlog

from darkroom.worker.batching.engine import Engine
from darkroom.worker.delivery.drain import Drain
from darkroom.worker.delivery.duty import Duty

EXIT_HUNG = 70  # sysexits.h, EX_SOFTWARE
LOOK_SECONDS = 1.0
SAME_SECONDS = 0.05  # by which one call's beginning, reckoned twice, may differ
LEAVING_SECONDS = 3.0  # from the last job handed back to the end of the process


class HangGuard:
    """Looks once a beat how long the engine has been at its call, and whether the process should be gone."""

    def __init__(self, engine: Engine, limit_seconds: float, drain: Drain) -> None:
        self._engine, self._limit, self._drain = engine, limit_seconds, drain

    def look(self) -> None:
        """Ends the process where a limit is exceeded."""
        busy = self._engine.busy_seconds()
        if busy > self._limit:
            structlog.get_logger().critical("worker.hung", call_seconds=round(busy, 1), exit_code=EXIT_HUNG)
            os._exit(EXIT_HUNG)
        if self._drain.over_for() > LEAVING_SECONDS:
            structlog.get_logger().warning("worker.left", call_seconds=round(busy, 1))
            os._exit(EXIT_HUNG if self._drain.cause else 0)


class WarmGuard(Duty):
    """Ends the process where the engine ends no call, and begins none, for too long while the context lasts."""

    def __init__(self, engine: Engine, limit_seconds: float) -> None:
        super().__init__("warm-guard", LOOK_SECONDS)
        self._engine, self._limit = engine, limit_seconds
        self._seen: tuple[object, float] | None = None
        self._since = time.monotonic()

    def round(self) -> None:
        """Looks once."""
        busy, now = self._engine.busy_seconds(), time.monotonic()
        seen = (self._engine.stats(), now - busy if busy else 0.0)  # the second: when its call began
        if self._seen is None or seen[0] != self._seen[0] or abs(seen[1] - self._seen[1]) > SAME_SECONDS:
            self._seen, self._since = seen, now
        still = now - self._since
        if still > self._limit:
            structlog.get_logger().critical("worker.hung_warming", seconds=round(still, 1), exit_code=EXIT_HUNG)
            os._exit(EXIT_HUNG)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
