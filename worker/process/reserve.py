"""Places beside those of all jobs, for interactive ones alone: where others fill a worker, these begin at once.

Celery's own places are read for as they were, so what waits in other lanes loses nothing by them. Here knocks are read
while no place is free, and only at interactive lanes; where these have filled the worker themselves, nothing is.
"""

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import structlog

from darkroom.tasks.errors import QueueError
from darkroom.tasks.redis_io import BlockingIO, Key, Operation, command
from darkroom.worker.delivery.drain import Drain
from darkroom.worker.process.transport import (
    GARBAGE_KEPT,
    GARBAGE_KEY,
    GARBAGE_SECONDS,
    READ_SECONDS,
    Garbage,
    job_id_of,
    told_garbage,
)
from darkroom.worker.process.turns import Turns

AWAY_SECONDS = 1.0  # between two tries of a Redis that does not answer


class Reserve:
    """So many places, each with a thread; a context, which ends when its jobs have."""

    def __init__(
        self,
        io: BlockingIO,
        turns: Turns,
        run: Callable[[str], None],
        drain: Drain,
        *,
        count: int,
        beside: int,
        may_take: Callable[[], bool] = lambda: True,
    ) -> None:
        """`run` takes a knock by the id that it names, and claims from `turns.urgent` alone. `beside`: other places."""
        self._io, self._turns, self._run, self._drain, self._may_take = io, turns, run, drain, may_take
        self._beside = beside
        self._closing = threading.Event()
        self._reading = threading.Lock()  # one reader is enough for all
        self.threads = [
            threading.Thread(target=self._serve, name=f"darkroom-reserve-{number}", daemon=True)
            for number in range(count)
        ]

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing.set()
        for thread in self.threads:
            thread.join()

    def _serve(self) -> None:
        while not (self._closing.is_set() or self._drain.begun):
            try:
                named = self._knock()
                if named is not None:
                    self._run(named)
            except QueueError as error:
                structlog.get_logger().warning("reserve.not_read", code=error.code)
                self._closing.wait(AWAY_SECONDS)
            except BaseException as error:  # noqa: BLE001 - as in the pool, the place must survive
                structlog.get_logger().error("pool.task_escaped", error=repr(error)[:500])

    def _knock(self) -> str | None:
        """What the next knock names; None where none came for a while, or none is to be read."""
        with self._reading:
            if not self._turns.wait_for_others(self._beside, READ_SECONDS):
                return None
            queues = [place.queue for place in self._turns.urgent()] if self._may_take() else []
            if not queues:  # of a lane that nobody has asked of yet, or of a worker of others
                self._closing.wait(READ_SECONDS)
                return None
            found = self._io.run(_read(queues))
        if found is None:
            return None
        queue, raw = found
        try:
            return job_id_of(raw)
        except Garbage as error:
            self._io.run(_put_aside(told_garbage(raw, queue, str(error))))
            return None


def _read(queues: Sequence[str]) -> Operation[tuple[str, bytes] | None]:
    found = yield command("BRPOP", *map(Key, queues), READ_SECONDS, blocks=True)
    return (found[0].decode(), found[1]) if found else None


def _put_aside(told: str) -> Operation[None]:
    yield [
        command("LPUSH", Key(GARBAGE_KEY), told),
        command("LTRIM", Key(GARBAGE_KEY), 0, GARBAGE_KEPT - 1),
        command("EXPIRE", Key(GARBAGE_KEY), GARBAGE_SECONDS),
    ]
