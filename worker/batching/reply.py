"""What one thread waits for and another gives it, once."""

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Reply(Generic[T]):
    """A value or an error, for the one thread that takes it.

    A `concurrent.futures.Future` can do more, and takes twice as long over every denoiser call.
    """

    __slots__ = ("_error", "_given", "_value")

    def __init__(self) -> None:
        self._given = threading.Lock()
        self._given.acquire()
        self._error: BaseException | None = None
        self._value: T

    def give(self, value: T) -> None:
        """Lets the other thread go on."""
        self._value = value
        self._given.release()

    def fail(self, error: BaseException) -> None:
        """Raises the error in the other thread."""
        self._error = error
        self._given.release()

    def take(self) -> T:
        """The value, once it is there. Raises what it failed with."""
        self._given.acquire()
        if self._error is None:
            return self._value
        try:
            raise self._error
        finally:
            self._error = None  # its traceback holds this frame, and that would hold it
