"""Seconds that a job spent in each phase."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Timings:
    """Adds up phases by name."""

    def __init__(self, **known: float) -> None:
        self._seconds = dict(known)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Adds the block's time to the phase."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - began

    def rounded(self) -> dict[str, float]:
        """To the tenth of a millisecond."""
        return {name: round(seconds, 4) for name, seconds in self._seconds.items()}
