"""Following streams: each `Reading` is one follower, and all those of a client share one blocking read.

The read is made by a thread, or by a task of the event loop, for as long as somebody follows.
"""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, Self, TypeVar

from darkroom.tasks.errors import ClientClosed, QueueBroken, QueueUnavailable
from darkroom.tasks.redis_io import AsyncIO, BlockingIO, Operation
from darkroom.tasks.streams import START, Batch, Source
from darkroom.tasks.watchlist import Watcher, Watchlist

T = TypeVar("T")

CLOSED = "the client was closed while it followed a job"
ENDED = "events are read no more: {!r}"
OWN = 2  # connections for what followers read by themselves: with that of the shared read, thousands take three
LONGEST = 3600.0  # seconds of one wait: clocks of the system cannot take any number


@contextlib.contextmanager
def _closing_told(io: BlockingIO | AsyncIO) -> Iterator[None]:
    """A call that failed because its client was closed meanwhile raises ClientClosed."""
    closed = io.closed
    try:
        yield
    except QueueUnavailable:
        if closed != io.closed:
            raise ClientClosed(CLOSED) from None
        raise


class _Closes(Protocol):
    closed: int  # how often


R = TypeVar("R", bound=_Closes)


class _Follower(Generic[R]):
    """What both readings share; a context manager that ends it. `ring` is called when there is something to look at."""

    def __init__(self, reader: R, source: Source, ring: Callable[[], None]) -> None:
        self._reader, self._closed = reader, reader.closed
        self._watcher = Watcher(source, Batch([], START), ring)

    def _began(self, batch: Batch) -> Batch:
        """With the batch that the follower read first."""
        self._watcher.cursor, self._watcher.behind = batch.cursor, batch.more
        return batch

    def _check(self) -> None:
        """Raises ClientClosed, once, where the client was closed since this began: also before it was in the list."""
        if self._closed != self._reader.closed:
            self._closed, self._watcher.error = self._reader.closed, None
            raise ClientClosed(CLOSED)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._watcher.leave()


class SharedReader:
    """For threads. Safe to share; what was begun before a fork goes on in the child, too."""

    def __init__(self, io: BlockingIO) -> None:
        self.io = io
        self.closed = 0  # how often
        self._begin()

    def run(self, operation: Operation[T]) -> T:
        """As `io.run`, for what a follower reads by itself: with few others at a time. Raises as it does."""
        self.watchlist()
        with _closing_told(self.io), self._line as line:
            result = self.io.run(operation)
            line.answered()
            return result

    def reading(self, source: Source) -> "Reading":
        """To follow a stream, from where its `begin` ends; to be closed."""
        return Reading(self, source)

    def watchlist(self) -> Watchlist:
        """That of this process: a thread of the parent does not read for a child."""
        if self._pid != os.getpid():
            self._begin()
        return self._watchlist

    def _begin(self) -> None:
        self._watchlist, self._line, self._pid = Watchlist(self.io.prefix), self.io.limiter(OWN), os.getpid()

    def attend(self, watchlist: Watchlist) -> None:
        """Sees to it that the list is read, with all of its streams."""
        if watchlist.begin():
            # A daemon: it must not keep a program that forgot to close its client from its end.
            try:
                threading.Thread(target=self._read, args=(watchlist,), name="darkroom-events", daemon=True).start()
            except RuntimeError as error:  # as many as the system allows are there
                watchlist.fail(QueueBroken(ENDED.format(error)))
        else:
            self.run(watchlist.interrupt())

    def _read(self, watchlist: Watchlist) -> None:
        try:
            while self.io.run(watchlist.turn()):
                time.sleep(watchlist.rest)
        except BaseException as error:
            watchlist.fail(QueueBroken(ENDED.format(error)))
            raise
        finally:
            self.io.close_reader()  # the client may be closed already: it leaves this connection to its user

    def close(self) -> None:
        """Ends all readings with ClientClosed; the thread ends a second later at most."""
        self.closed += 1  # before the list is told: who joins it afterwards sees it here
        self.watchlist().fail(ClientClosed(CLOSED))


class Reading(_Follower[SharedReader]):
    """One follower of one stream; a context manager that ends it."""

    def __init__(self, reader: SharedReader, source: Source) -> None:
        self._bell = threading.Event()
        super().__init__(reader, source, self._bell.set)

    def begin(self, operation: Operation[Batch]) -> Batch:
        """The first batch, which the operation gets; what follows it comes next. Raises as `next`."""
        return self._began(self._reader.run(operation))

    def next(self, timeout: float = LONGEST) -> Batch:
        """What comes next, in one batch; after `timeout` seconds, an hour at most, an empty one.

        Raises JobNotFound, QueueError, ClientClosed; afterwards it may be asked again, and goes on where it was.
        """
        while True:
            self._bell.clear()
            watchlist = self._reader.watchlist()
            self._check()
            found = watchlist.look(self._watcher)
            if isinstance(found, Batch):
                return found
            if found is not None:
                return self._reader.run(found)
            self._check()
            self._reader.attend(watchlist)
            if not self._bell.wait(min(timeout, LONGEST)):
                return Batch([], self._watcher.cursor)


class AsyncSharedReader:
    """For one event loop, in which a task reads."""

    def __init__(self, io: AsyncIO) -> None:
        self.io = io
        self.closed = 0
        self._watchlist, self._line = Watchlist(io.prefix), io.limiter(OWN)
        self._task: asyncio.Task[None] | None = None

    async def run(self, operation: Operation[T]) -> T:
        """As SharedReader.run."""
        self.watchlist()
        with _closing_told(self.io):
            async with self._line as line:
                result = await self.io.run(operation)
                line.answered()
                return result

    def reading(self, source: Source) -> "AsyncReading":
        """As SharedReader.reading."""
        return AsyncReading(self, source)

    def watchlist(self) -> Watchlist:
        """Raises QueueBroken in another loop than the client's."""
        self.io.check_loop()
        return self._watchlist

    async def attend(self, watchlist: Watchlist) -> None:
        """As SharedReader.attend."""
        if watchlist.begin():
            self._task = asyncio.create_task(self._read(watchlist), name="darkroom-events")
        else:
            await self.run(watchlist.interrupt())

    async def _read(self, watchlist: Watchlist) -> None:
        try:
            while await self.io.run(watchlist.turn()):
                await asyncio.sleep(watchlist.rest)
        except asyncio.CancelledError:
            watchlist.fail(ClientClosed(CLOSED))
            raise
        except BaseException as error:
            watchlist.fail(QueueBroken(ENDED.format(error)))
            raise

    async def close(self) -> None:
        """As SharedReader.close; ends the task."""
        self.closed += 1
        self.watchlist().fail(ClientClosed(CLOSED))
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task


class AsyncReading(_Follower[AsyncSharedReader]):
    """As Reading, awaited."""

    def __init__(self, reader: AsyncSharedReader, source: Source) -> None:
        self._bell = asyncio.Event()
        super().__init__(reader, source, self._bell.set)

    async def begin(self, operation: Operation[Batch]) -> Batch:
        """As Reading.begin."""
        return self._began(await self._reader.run(operation))

    async def next(self, timeout: float = LONGEST) -> Batch:
        """As Reading.next."""
        while True:
            self._bell.clear()
            watchlist = self._reader.watchlist()
            self._check()
            found = watchlist.look(self._watcher)
            if isinstance(found, Batch):
                return found
            if found is not None:
                return await self._reader.run(found)
            self._check()
            await self._reader.attend(watchlist)
            try:
                async with asyncio.timeout(min(timeout, LONGEST)):
                    await self._bell.wait()
            except TimeoutError:
                return Batch([], self._watcher.cursor)
