"""A model call that never comes back (a hung driver, a lost GPU): the process ends, its parent starts another.

Nothing less helps: a thread cannot be ended, and the device may need a new process. The leases move the jobs. In the
same way a process ends that must be gone and is in a step that lasts longer than its time.
"""

import os

import structlog

from darkroom.worker.batching.engine import Engine
from darkroom.worker.delivery.drain import Drain

EXIT_HUNG = 70  # sysexits.h, EX_SOFTWARE
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
