"""A model call that never comes back (a hung driver, a lost GPU): the process ends, its parent starts another.

Nothing less helps: a thread cannot be ended, and the device may need a new process. The leases move the jobs.
"""

import os

import structlog

from darkroom.worker.batching.engine import Engine

EXIT_HUNG = 70  # sysexits.h, EX_SOFTWARE


class HangGuard:
    """Looks once a beat how long the engine has been at its call."""

    def __init__(self, engine: Engine, limit_seconds: float) -> None:
        self._engine, self._limit = engine, limit_seconds

    def look(self) -> None:
        """Ends the process where the limit is exceeded."""
        busy = self._engine.busy_seconds()
        if busy > self._limit:
            structlog.get_logger().critical("worker.hung", call_seconds=round(busy, 1), exit_code=EXIT_HUNG)
            os._exit(EXIT_HUNG)
