"""Reading events: a job's own stream to its end, and the feed of all jobs."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from darkroom.tasks.errors import Fault, InvalidRequest, JobNotFound, QueueBroken
from darkroom.tasks.events import DataUrl, Event
from darkroom.tasks.job import State
from darkroom.tasks.redis_io import BLOCK_SECONDS, Call, Key, Operation, command

START = "0-0"
Entries = list[tuple[bytes, Mapping[bytes, bytes]]]  # of a stream: id and fields
_PAGE = 256
_EVENT_ID = re.compile(r"[0-9]{1,18}(-[0-9]{1,18})?")  # shorter than what overflows at the server


@dataclass(frozen=True, slots=True)
class Batch:
    """Some events, the id to go on from, and whether none will follow."""

    events: list[Event]
    cursor: str
    ended: bool = False


def first(job_id: str, after: str | None) -> Operation[Batch]:
    """What a job's stream holds after an event id, without waiting. Raises JobNotFound, InvalidRequest."""
    cursor = _cursor(after)
    state, entries = yield [
        command("HGET", Key(f"job:{job_id}"), "state"),
        command("XRANGE", Key(f"events:{job_id}"), f"({cursor}", "+", "COUNT", _PAGE),
    ]
    return _batch(entries, cursor, ended=_has_ended(job_id, state) and not entries)


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
        raise QueueBroken(f"the record cannot be read: {error}") from None


def following(job_id: str, cursor: str, *, block: float = BLOCK_SECONDS, previews: bool = False) -> Operation[Batch]:
    """What comes next in a job's stream; waits `block` seconds for it. Raises JobNotFound."""
    reply = yield _read(Key(f"events:{job_id}"), cursor, block)
    batch = _batch(_of_stream(reply), cursor)
    if batch.cursor == cursor:
        return (yield from first(job_id, cursor))
    if previews and any(event.data.get("preview") for event in batch.events):
        picture = yield command("GET", Key(f"preview:{job_id}"))
        _show(batch.events, picture)
    return batch


def newest_feed_id() -> Operation[str]:
    """The id after which the feed's next event comes."""
    entries = yield command("XREVRANGE", Key("feed"), "+", "-", "COUNT", 1)
    return entries[0][0].decode() if entries else START


def feed(cursor: str) -> Operation[Batch]:
    """State changes of all jobs after an event id; waits about a second. Raises InvalidRequest."""
    reply = yield _read(Key("feed"), _cursor(cursor), BLOCK_SECONDS)
    return _batch(_of_stream(reply), cursor)


def _read(stream: Key, cursor: str, block: float) -> Call:
    wait_ms = max(1, round(block * 1000))  # 0 would wait for ever
    return command("XREAD", "COUNT", _PAGE, "BLOCK", wait_ms, "STREAMS", stream, cursor, blocks=True)


def _cursor(after: str | None) -> str:
    if after is None:
        return START
    if not _EVENT_ID.fullmatch(after):
        raise InvalidRequest([Fault("after", "invalid_value", f"{after!r} is no event id")])
    return after


def _batch(entries: Entries, cursor: str, *, ended: bool = False) -> Batch:
    if not entries:
        return Batch([], cursor, ended)
    events = [event for event in map(_event, entries) if event is not None]
    return Batch(events, entries[-1][0].decode(), bool(events) and events[-1].terminal)


def _of_stream(reply: Any) -> Entries:
    streams = list(reply.values()) if isinstance(reply, Mapping) else [entries for _, entries in reply or []]
    return [entry for entries in streams for entry in entries]


def _event(entry: tuple[bytes, Mapping[bytes, bytes]]) -> Event | None:
    """None for an entry that is none of ours: it must not keep a reader from what comes after it."""
    try:
        return Event.decode(*entry)
    except QueueBroken:
        return None


def _show(events: list[Event], picture: bytes | None) -> None:
    """Puts the newest preview into the newest event that has one; Redis keeps no older ones."""
    for event in reversed(events):
        if picture and event.data.get("preview"):
            event.data["preview"] = DataUrl("data:image/jpeg;base64," + base64.b64encode(picture).decode())
            return
