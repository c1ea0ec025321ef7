"""A duty of the worker: something done again and again on a thread of its own, until it is closed."""

import threading
from abc import ABC, abstractmethod


class Duty(ABC):
    """Does `round` every so many seconds; a round must not raise, or the duty ends."""

    def __init__(self, name: str, every_seconds: float) -> None:
        self._every = every_seconds
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"darkroom-{name}", daemon=True)

    def start(self) -> None:
        """Begins the rounds."""
        self._thread.start()

    def close(self) -> None:
        """Ends the thread; what it looked after is left as it is."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    @abstractmethod
    def round(self) -> None:
        """Once."""

    def _run(self) -> None:
        while not self._closing.wait(self._every):
            self.round()
