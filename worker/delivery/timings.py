"""Seconds that a job spent in each phase; a profiler sees the phases too."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from darkroom.worker.spans import span


class Timings:
    """Adds up phases by name, from any number of threads: what images do at the same time counts for each."""

    def __init__(self, **known: float) -> None:
        self._seconds = dict(known)
        self._lock = threading.Lock()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Adds the block's time to the phase."""
        began = time.perf_counter()
        try:
            with span(name):
                yield
        finally:
            self.add(name, time.perf_counter() - began)

    def add(self, name: str, seconds: float) -> None:
        """Adds to the phase."""
        with self._lock:
            self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def rounded(self) -> dict[str, float]:
        """To the tenth of a millisecond."""
        return {name: round(seconds, 4) for name, seconds in self._seconds.items()}
