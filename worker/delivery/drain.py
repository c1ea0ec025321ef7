"""The end of a worker: jobs that are done in time finish, the others are handed back between two steps."""

import os
import signal
import time

from darkroom.worker.errors import DeviceBroken


class Drain:
    """Begun by a signal, from any thread; seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadline: float | None = None
        self.cause: DeviceBroken | None = None  # why the worker stops by itself

    @property
    def begun(self) -> bool:
        """True once the worker is to stop."""
        return self._deadline is not None

    def begin(self) -> None:
        """From now on only what is done within the time may finish."""
        deadline = time.monotonic() + self._seconds
        self._deadline = deadline if self._deadline is None else min(self._deadline, deadline)

    def leave(self, cause: DeviceBroken) -> None:
        """Nothing may finish any more, and the process ends as if it had been told to."""
        self.cause = cause
        self.hurry()
        os.kill(os.getpid(), signal.SIGTERM)

    def hurry(self) -> None:
        """Nothing may finish any more."""
        self._deadline = time.monotonic()

    def over_for(self) -> float:
        """Seconds since everything had to be finished or handed back; 0 before."""
        return 0.0 if self._deadline is None else max(0.0, time.monotonic() - self._deadline)

    def too_late_for(self, seconds: float) -> bool:
        """Whether a job that needs so much longer must be handed back."""
        return self._deadline is not None and time.monotonic() + seconds > self._deadline
