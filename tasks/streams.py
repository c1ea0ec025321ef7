"""Reading events page by page: a job's own stream to its end, and the feed of all jobs."""

import base64
import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from darkroom.tasks.errors import (
    BatchNotFound,
    Fault,
    InvalidRequest,
    JobNotFound,
    QueueBroken,
    QueueError,
    QueueUnavailable,
)
from darkroom.tasks.events import DataUrl, Event
from darkroom.tasks.job import State, unreadable
from darkroom.tasks.redis_io import Key, Operation, command
from darkroom.tasks.word import word

START = "0-0"
Entry = tuple[bytes, Mapping[bytes, bytes]]  # id and fields
PAGE = 256
_EVENT_ID = re.compile(r"[0-9]{1,18}(-[0-9]{1,18})?")  # shorter than what overflows at the server


@dataclass(frozen=True, slots=True)
class Batch:
    """Some events, the id to go on from, whether none will follow, and whether more are there already."""

    events: list[Event]
    cursor: str
    ended: bool = False
    more: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """A stream that can be followed: its key, how a page of it is read after an id, and the job whose end it has.

    `watched`: who follows it wants to see the job's steps, too (`darkroom.tasks.word`).
    """

    key: Key
    page: Callable[[str], Operation[Batch]]
    job_id: str | None = None
    watched: bool = False


def of_job(job_id: str, *, watched: bool = False) -> Source:
    """A job's own stream."""
    return Source(Key(f"events:{job_id}"), lambda cursor: first(job_id, cursor), job_id, watched)


def of_all() -> Source:
    """The feed."""
    return Source(Key("feed"), feed)


def of_batch(batch_id: str) -> Source:
    """A batch's own stream."""
    return Source(Key(f"batch_events:{batch_id}"), lambda cursor: first_of_batch(batch_id, cursor))


def first_of_batch(batch_id: str, after: str | None) -> Operation[Batch]:
    """What a batch's stream holds after an event id, without waiting. Raises BatchNotFound, InvalidRequest."""
    cursor = _cursor(after)
    (there, ended), entries = yield [
        command("HMGET", Key(f"batch:{batch_id}"), "tenant", "ended"),
        command("XRANGE", Key(f"batch_events:{batch_id}"), f"({cursor}", "+", "COUNT", PAGE),
    ]
    if there is None:
        raise BatchNotFound(f"no batch {batch_id}")
    batch = batch_of(entries, cursor, ended=ended is not None and not entries)
    return batch if ended is not None else replace(batch, ended=False)  # an older end: some were tried again


def first(job_id: str, after: str | None) -> Operation[Batch]:
    """What a job's stream holds after an event id, without waiting. Raises JobNotFound, InvalidRequest."""
    cursor = _cursor(after)
    state, entries = yield [
        command("HGET", Key(f"job:{job_id}"), "state"),
        command("XRANGE", Key(f"events:{job_id}"), f"({cursor}", "+", "COUNT", PAGE),
    ]
    return batch_of(entries, cursor, ended=_has_ended(job_id, state) and not entries)


def watch(job_id: str, after: str | None) -> Operation[Batch]:
    """As `first`, of a job that somebody begins to watch: where it goes on, word of that is left."""
    batch = yield from first(job_id, after)
    if not batch.ended:
        with contextlib.suppress(QueueError):  # of who may only read, or at a full server: it goes without steps
            yield word(job_id)
    return batch


def latest(job_id: str) -> Operation[Batch]:
    """Whether a job has ended, and the id after which its next event comes. Raises JobNotFound."""
    # The stream first: an end between the two reads is then behind the cursor, not lost before it.
    newest, state = yield [
        command("XREVRANGE", Key(f"events:{job_id}"), "+", "-", "COUNT", 1),
        command("HGET", Key(f"job:{job_id}"), "state"),
    ]
    return Batch([], newest[0][0].decode() if newest else START, _has_ended(job_id, state))


def _has_ended(job_id: str, state: bytes | None) -> bool:
    if state is None:
        raise JobNotFound(f"no job {job_id}")
    try:
        return State(state.decode()).final
    except ValueError as error:
        raise unreadable(error) from None


def newest() -> Operation[Batch]:
    """No events, and the id after which the feed's next one comes."""
    entries = yield command("XREVRANGE", Key("feed"), "+", "-", "COUNT", 1)
    return Batch([], entries[0][0].decode() if entries else START)


def feed(after: str) -> Operation[Batch]:
    """State changes of all jobs after an event id, without waiting. Raises InvalidRequest."""
    cursor = _cursor(after)
    entries = yield command("XRANGE", Key("feed"), f"({cursor}", "+", "COUNT", PAGE)
    return batch_of(entries, cursor)


def _cursor(after: str | None) -> str:
    if after is None:
        return START
    if not _EVENT_ID.fullmatch(after):
        raise InvalidRequest([Fault("after", "invalid_value", f"{after!r} is no event id")])
    return after


def batch_of(entries: Sequence[Entry], cursor: str, *, ended: bool = False) -> Batch:
    """The entries that came after `cursor`, decoded."""
    if not entries:
        return Batch([], cursor, ended)
    events = [event for event in map(_event, entries) if event is not None]
    ended = bool(events) and events[-1].terminal
    return Batch(events, entries[-1][0].decode(), ended, more=len(entries) >= PAGE and not ended)


def _event(entry: Entry) -> Event | None:
    """None for an entry that is none of ours: it must not keep a reader from what comes after it."""
    try:
        return Event.decode(*entry)
    except QueueBroken:
        return None


def shown(job_id: str, batch: Batch) -> Operation[Batch]:
    """Puts the job's newest preview into the newest event that has one; Redis keeps no older ones."""
    for event in reversed(batch.events):
        if event.data.get("preview"):
            picture = None
            with contextlib.suppress(QueueUnavailable):  # the events count more, and are not read again
                picture = yield command("GET", Key(f"preview:{job_id}"))
            if picture:
                event.data["preview"] = DataUrl("data:image/jpeg;base64," + base64.b64encode(picture).decode())
            break
    return batch
