"""What one thread waits for and another gives it, once."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
ASK_SECONDS = 0.25  # between two questions whether to wait on


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

    def take(self, check: Callable[[], None] | None = None, withdraw: Callable[[], bool] = lambda: True) -> T:
        """The value, once it is there. Raises what it failed with, or what `check` does, which is asked now and then.

        Unless that has to wait for the value: `withdraw` says whether nobody is at it, nor will be.
        """
        given = False
        while check and not (given := self._given.acquire(timeout=ASK_SECONDS)):
            try:
                check()
            except BaseException:
                if withdraw():
                    raise
                check = None
        if not given:
            self._given.acquire()
        if self._error is None:
            return self._value
        try:
            raise self._error
        finally:
            self._error = None  # its traceback holds this frame, and that would hold it


def answer(reply: Reply[T], work: Callable[[], T], done: Callable[[], None] = lambda: None) -> None:
    """Gives what the work returns or raises; `done` comes just before."""
    try:
        found = work()
    except BaseException as error:  # noqa: BLE001 - the caller gets it; this thread has to live on
        done()
        reply.fail(error)
    else:
        done()
        reply.give(found)
