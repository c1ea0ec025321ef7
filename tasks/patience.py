"""A time-out for event loops that are busy."""

import asyncio
from types import TracebackType
from typing import Self

TICKS = 10


class Patience:
    """As asyncio.timeout: raises TimeoutError after so many seconds, those in which the loop stood still not counted.

    A loop that was kept from its sockets by a long calculation, or by the first steps of thousands of tasks, finds
    time-outs and answers due at once, and asyncio tells the time-outs first.
    """

    def __init__(self, seconds: float) -> None:
        self._tick_seconds, self._ticks = seconds / TICKS, TICKS
        self._scope = asyncio.timeout(None)

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        await self._scope.__aenter__()
        self._timer = self._loop.call_later(self._tick_seconds, self._tick)
        return self

    def _tick(self) -> None:
        self._ticks -= 1
        if self._ticks > 0:
            self._timer = self._loop.call_later(self._tick_seconds, self._tick)
        else:
            self._scope.reschedule(self._loop.time())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        await self._scope.__aexit__(kind, error, trace)
