"""One read for all streams that somebody follows.

Who follows a stream reads by themselves up to its newest entry, page by page, and from there on hears of new entries
through the shared read. Who is slower than what comes is left *behind*: what was held for them is dropped, and they
read by themselves again. So a slow one holds up nobody, and the memory of each is bounded.

The read is ended early through a stream of the client's own (`wake:{id}`) when it is to begin anew with more streams.
"""

import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from darkroom.tasks.connections import BLOCK_SECONDS
from darkroom.tasks.errors import DarkroomError, QueueBroken, QueueError, QueueUnavailable
from darkroom.tasks.job import State
from darkroom.tasks.operations import ping
from darkroom.tasks.redis_io import Call, Key, Operation, command, script
from darkroom.tasks.streams import PAGE, START, Batch, Entry, Source, batch_of
from darkroom.tasks.word import AGAIN_SECONDS, leave_word

REPLY_ENTRIES = 4096  # about as many in one reply, of all streams together
REST_SECONDS = 25e-6  # for each stream, between two reads: naming a stream in a read costs both sides a tenth of that
RESTLESS = 40  # so few streams need no rest
GOING_ON = frozenset(state.encode() for state in State if not state.final)
DOUBTS = 3  # reads that fail one after another while the server answers other calls


def place(event_id: str | bytes) -> tuple[int, int]:
    """An event's id as what it is ordered by."""
    ms, _, sequence = (event_id if isinstance(event_id, str) else event_id.decode()).partition("-")
    return int(ms), int(sequence or 0)


class Watcher:
    """Somebody who follows one stream. `ring` is called when there is something for them to look at."""

    def __init__(self, source: Source, begin: Batch, ring: Callable[[], None]) -> None:
        self.source, self.ring = source, ring
        self.cursor = begin.cursor  # of what they have taken
        self.behind = begin.more
        self.joined: Watchlist | None = None
        self.held: list[Entry] = []
        self.error: DarkroomError | None = None

    def give(self, entries: list[Entry], before: tuple[int, int]) -> None:
        """Holds the entries that come after `before`, up to a page, until they are taken."""
        if self.behind:
            return
        if (at := place(self.cursor)) > before:  # they had read some of these by themselves
            entries = [entry for entry in entries if place(entry[0]) > at]
        if len(self.held) + len(entries) > PAGE:
            self.leave_behind()
        else:
            self.held += entries
            self.ring()

    def leave_behind(self) -> None:
        """They are to read by themselves what comes next."""
        self.held, self.behind = [], True
        self.ring()

    def leave(self) -> None:
        """They follow no more."""
        if self.joined:
            self.joined.forget(self)

    def fail(self, error: DarkroomError) -> None:
        """They are to raise the error, each their own copy, and may follow on afterwards."""
        self.error, self.joined = type(error)(error.message, hint=error.hint), None
        self.leave_behind()


class _Stream:
    """What is followed by some, and the id up to which the shared read has come."""

    def __init__(self, source: Source, tail: str) -> None:
        self.source, self.tail = source, tail
        self.watchers: set[Watcher] = set()
        self.heard = time.monotonic()
        self.worded = -math.inf  # when word was left that it is watched

    @property
    def watched(self) -> bool:
        """Whether any of them wants to see the steps of its job."""
        return any(watcher.source.watched for watcher in tuple(self.watchers))


class Watchlist:
    """The streams that one client follows. Safe to share between threads; whoever runs `turn` again and again reads."""

    def __init__(self, prefix: str) -> None:
        self._prefix, self._lock = prefix, threading.Lock()
        self._streams: dict[str, _Stream] = {}
        # A watcher's end may come from the garbage collection of a generator, in whatever this thread does: no lock.
        self._left: deque[Watcher] = deque()
        self._id, self._woken_at = str(uuid4()), START
        self._wake = Key(f"wake:{self._id}")
        self._running = False  # somebody makes turns
        self._reading = self._stale = self._woken = False  # at the server; without a stream that was added; told so
        self._failures = 0

    @property
    def rest(self) -> float:
        """Seconds to let pass between two turns, so that what comes gathers."""
        return len(self._streams) * REST_SECONDS if len(self._streams) > RESTLESS else 0.0

    def begin(self) -> bool:
        """Whether the caller is to see to it that turns are made, since nobody does."""
        with self._lock:
            begins, self._running = not self._running, True
            return begins

    def interrupt(self) -> Operation[None]:
        """Ends the read that is under way, where it lacks a stream and nobody has seen to that yet."""
        with self._lock:
            if not (self._reading and self._stale) or self._woken:
                return
            self._woken = True
        # Refused by a server in trouble, or to a user who may only read? The read ends by itself within a second.
        with contextlib.suppress(QueueError):
            yield script("wake", self._id)

    def forget(self, watcher: Watcher) -> None:
        """They follow no more."""
        self._left.append(watcher)

    def fail(self, error: DarkroomError) -> None:
        """All of them raise the error, and none is followed any more."""
        with self._lock:
            for stream in self._streams.values():
                self._drop(stream, error)
            self._streams, self._running = {}, False

    def look(self, watcher: Watcher) -> Batch | Operation[Batch] | None:
        """What is there for a watcher: a batch, or an operation that gets one; None: nothing before they are rung for.

        Raises the error that ended the shared read.
        """
        with self._lock:
            if watcher.error:
                error, watcher.error = watcher.error, None
                raise error
            if watcher.joined is not self and not watcher.behind:
                self._join(watcher)
            if watcher.behind:
                return self._catch_up(watcher)
            if not watcher.held:
                return None
            entries, watcher.held = watcher.held, []
            batch = batch_of(entries, watcher.cursor)
            watcher.cursor = batch.cursor
            return batch

    def turn(self) -> Operation[bool]:
        """One read of all streams, and what follows from it. False where nobody follows any: no more turns are due."""
        call = self._read()
        if call is None:
            return False
        yield from self._leave_word()
        try:
            self._deliver((yield call))
            self._failures = 0
        except QueueUnavailable as error:
            yield from self._doubt(error)
        except QueueError as error:
            yield from self._find_culprit(error)
        yield from self._look_after_silent()
        return True

    def _join(self, watcher: Watcher) -> None:
        key = watcher.source.key
        if key not in self._streams:
            self._streams[key] = _Stream(watcher.source, watcher.cursor)
            self._stale = True
        stream = self._streams[key]
        stream.watchers.add(watcher)
        watcher.joined, watcher.held = self, []
        watcher.behind = place(watcher.cursor) < place(stream.tail)

    def _catch_up(self, watcher: Watcher) -> Operation[Batch]:
        """A page that a watcher reads by themselves; at the end of the stream they are no longer behind."""
        known = self._tail(watcher)
        batch = yield from watcher.source.page(watcher.cursor)
        with self._lock:
            watcher.cursor = batch.cursor
            if not batch.more:
                # What the shared read had seen before, this page has too, or it is no longer there.
                watcher.cursor = max(batch.cursor, known, key=place)
                watcher.behind = place(watcher.cursor) < place(self._tail(watcher))
        return batch

    def _tail(self, watcher: Watcher) -> str:
        stream = self._streams.get(watcher.source.key) if watcher.joined is self else None
        return stream.tail if stream else START

    def _read(self) -> Call | None:
        """The read of all streams; None where there are none."""
        with self._lock:
            while self._left:
                watcher = self._left.popleft()
                stream = self._streams.get(watcher.source.key)
                if stream and watcher in stream.watchers:
                    stream.watchers.remove(watcher)
                    if not stream.watchers:
                        del self._streams[watcher.source.key]
            if not self._streams:
                self._running = False
                return None
            self._reading, self._stale, self._woken = True, False, False
            count = max(1, min(PAGE, REPLY_ENTRIES // len(self._streams)))
            keys = [self._wake, *(stream.source.key for stream in self._streams.values())]
            cursors = [self._woken_at, *(stream.tail for stream in self._streams.values())]
        wait_ms = round(BLOCK_SECONDS * 1000)
        return command("XREAD", "COUNT", count, "BLOCK", wait_ms, "STREAMS", *keys, *cursors, blocks=True)

    def _leave_word(self) -> Operation[None]:
        """Says of the jobs whose steps somebody wants to see that they are watched, where it is time to."""
        now = time.monotonic()
        due = [stream for stream in self._snapshot() if now - stream.worded >= AGAIN_SECONDS and stream.watched]
        with contextlib.suppress(QueueError):  # the read tells of a server that is away
            yield from leave_word(str(stream.source.job_id) for stream in due)
            for stream in due:
                stream.worded = now

    def _deliver(self, reply: Any) -> None:
        with self._lock:
            self._reading = False
            for name, entries in reply.items() if isinstance(reply, dict) else reply or []:
                key = name.decode().removeprefix(self._prefix)
                newest = entries[-1][0].decode()
                if key == self._wake:
                    self._woken_at = newest
                elif stream := self._streams.get(key):
                    before, stream.tail, stream.heard = place(stream.tail), newest, time.monotonic()
                    for watcher in stream.watchers:
                        watcher.give(entries, before)

    def _doubt(self, error: QueueUnavailable) -> Operation[None]:
        """A read failed: a cut connection, or an event loop that stood still, need not end what many follow."""
        if not self._streams:
            return
        self._failures += 1
        try:
            yield from ping()
        except QueueError as answer:
            self.fail(answer)
        else:
            if self._failures >= DOUBTS:
                self.fail(error)

    def _find_culprit(self, error: QueueError) -> Operation[None]:
        """The server refused the read: where that is for the sake of some streams, the others go on."""
        culprits = 0
        for stream in self._snapshot():
            try:
                yield command("XREAD", "COUNT", 1, "STREAMS", stream.source.key, stream.tail)
            except QueueBroken as its_own:
                culprits += 1
                with self._lock:
                    self._drop(stream, its_own)
                    self._streams.pop(stream.source.key, None)
            except QueueError as other:
                self.fail(other)
                return
        if not culprits:
            self.fail(error)

    def _look_after_silent(self) -> Operation[None]:
        """Who follows a job that was silent for a while reads by themselves where it has ended or is gone."""
        now = time.monotonic()
        silent = [s for s in self._snapshot() if s.source.job_id and now - s.heard >= BLOCK_SECONDS][:PAGE]
        if not silent:
            return
        try:
            asked = [command("HGET", Key(f"job:{stream.source.job_id}"), "state", alone=True) for stream in silent]
            states = yield asked
        except QueueError:  # the next read tells
            return
        with self._lock:
            for stream, state in zip(silent, states, strict=True):
                stream.heard = now
                if state not in GOING_ON:
                    for watcher in stream.watchers:
                        watcher.leave_behind()

    def _snapshot(self) -> list[_Stream]:
        with self._lock:
            return list(self._streams.values())

    def _drop(self, stream: _Stream, error: DarkroomError) -> None:
        for watcher in stream.watchers:
            watcher.fail(error)
