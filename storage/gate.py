"""Bounds what decoding takes in a whole process: memory by the pixels that are unpacked at a time, and CPU time."""

import ctypes
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO

from darkroom.storage.errors import InputBomb

_LARGE = 4_000_000  # pixels


class PixelGate:
    """Lets pictures in, first come first served, while those inside have at most `limit` pixels in all."""

    def __init__(self, limit: int) -> None:
        self._limit, self._inside = limit, 0
        self._line: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def room(self, pixels: int) -> Iterator[None]:
        """Waits for room, and holds it; a picture over the limit goes in alone. Who holds room must ask for no more."""
        taken = min(pixels, self._limit)
        self._enter(taken)
        try:
            yield
        finally:
            if pixels >= _LARGE:
                _give_back_memory()
            self._leave(taken)

    def _enter(self, taken: int) -> None:
        place = object()
        with self._changed:
            self._line.append(place)
            try:
                self._changed.wait_for(lambda: self._line[0] is place and self._inside + taken <= self._limit)
                self._inside += taken
            finally:
                self._line.remove(place)
                self._changed.notify_all()

    def _leave(self, taken: int) -> None:
        with self._changed:
            self._inside -= taken
            self._changed.notify_all()


class Budget:
    """CPU time of the thread that makes it, in seconds. Waiting costs none, so a busy machine refuses no picture."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._end = seconds, time.thread_time() + seconds

    def check(self) -> None:
        """Raises InputBomb once the time is used up."""
        if time.thread_time() > self._end:
            msg = f"the input takes over {self._seconds:g} s to decode"
            raise InputBomb(msg)


class BudgetedFile(BytesIO):
    """Bytes that can be read while there is time. Decoders of PNG and JPEG ask for some 64 kB at a time."""

    def __init__(self, data: bytes, budget: Budget) -> None:
        super().__init__(data)
        self._budget = budget

    def read(self, size: int | None = -1, /) -> bytes:
        self._budget.check()
        return super().read(size)


def _give_back_memory() -> None:
    """To the system: glibc would keep what large pictures had, by thread. Elsewhere this does nothing."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
