"""A bound on the connections of one client: calls beyond it wait in line, the first come first.

redis-py's own pools that wait have no order (a call that came late may go before one that waits until it gives up), and
there is none for Sentinel.
"""

import asyncio
import threading
import time
from collections import OrderedDict
from typing import Generic, Self, TypeVar

from darkroom.tasks.errors import QueueBusy, QueueUnavailable

TURNS = 20  # in the time-out of one command: how long a call waits while the server answers others
SILENCE = 2  # in the same: how long it waits while the server answers nobody
TICKS = 10  # in the same

Turn = TypeVar("Turn", threading.Event, "asyncio.Future[None]")


class _Line(Generic[Turn]):
    """Who waits, and for how long. `timeout`: seconds that one command may take."""

    def __init__(self, size: int, timeout: float) -> None:
        self._size, self._timeout = size, timeout
        self._free = size
        self._waiting: OrderedDict[Turn, float] = OrderedDict()  # since when
        self._answered = 0.0

    def now(self) -> float:
        """Seconds of the clock that waiting is measured with."""
        raise NotImplementedError

    def answered(self) -> None:
        """The server has answered a call: those that wait may hope."""
        self._answered = self.now()

    def _seconds_left(self, turn: Turn) -> float:
        since = self._waiting[turn]
        patience = max(since, self._answered) + SILENCE * self._timeout
        return min(patience, since + TURNS * self._timeout) - self.now()

    def _refusal(self, turn: Turn) -> QueueUnavailable:
        waited = self.now() - self._waiting[turn]
        if waited < TURNS * self._timeout:
            return QueueUnavailable(f"Redis did not answer: all {self._size} connections wait for it")
        return QueueBusy(f"no connection to Redis came free within {waited:.1f} s: calls hold all {self._size}")


class Limiter(_Line[threading.Event]):
    """For threads; a context manager around each call. Raises QueueBusy, QueueUnavailable."""

    def __init__(self, size: int, timeout: float) -> None:
        super().__init__(size, timeout)
        self._lock = threading.Lock()

    def now(self) -> float:
        return time.monotonic()

    def __enter__(self) -> Self:
        with self._lock:
            if self._free:
                self._free -= 1
                return self
            turn = threading.Event()
            self._waiting[turn] = self.now()
        try:
            self._wait(turn)
        except BaseException:
            with self._lock:
                gone = self._waiting.pop(turn, None) is not None
            if not gone:  # it was given the connection meanwhile
                self.__exit__()
            raise
        return self

    def _wait(self, turn: threading.Event) -> None:
        left = SILENCE * self._timeout
        while not turn.wait(left):
            with self._lock:
                if turn not in self._waiting:
                    return
                left = self._seconds_left(turn)
                if left <= 0:
                    raise self._refusal(turn)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popitem(last=False)[0].set()
            else:
                self._free += 1


class AsyncLimiter(_Line["asyncio.Future[None]"]):
    """The same for one event loop. Its clock stands still while the loop does: nobody could be answered meanwhile."""

    def __init__(self, size: int, timeout: float) -> None:
        super().__init__(size, timeout)
        self._clock = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def now(self) -> float:
        return self._clock

    async def __aenter__(self) -> Self:
        if self._free:
            self._free -= 1
            return self
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = self._clock
        if self._timer is None:
            self._wind()
        try:
            await turn
        except BaseException:
            self._waiting.pop(turn, None)
            if turn.done() and not turn.cancelled() and not turn.exception():  # it was given the connection meanwhile
                self._hand_on()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._hand_on()

    def _hand_on(self) -> None:
        while self._waiting:
            turn, _ = self._waiting.popitem(last=False)
            if not turn.done():  # cancelled, and not awake since
                turn.set_result(None)
                return
        self._free += 1

    def _wind(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._timeout / TICKS, self._tick)

    def _tick(self) -> None:
        """One for all: who waits longest is the first to give up."""
        self._clock += self._timeout / TICKS
        self._timer = None
        while self._waiting:
            turn = next(iter(self._waiting))
            if self._seconds_left(turn) > 0:
                self._wind()
                return
            refusal = self._refusal(turn)
            del self._waiting[turn]
            if not turn.done():
                turn.set_exception(refusal)
