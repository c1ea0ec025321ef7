"""Events: what happened to a job, as both streams carry it.

A job's own stream (`darkroom:events:{id}`) holds everything, the feed (`darkroom:feed`) the state changes of all jobs.
On the wire an event is five text fields: type, time (seconds), job_id, tenant, data (JSON). Its id is the stream's
entry id, the same in both streams, and ids rise.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from darkroom.tasks.errors import QueueBroken

EventType = Literal[
    "job.queued",
    "job.started",
    "job.progress",
    "job.waiting",
    "job.image",
    "job.file",
    "job.succeeded",
    "job.failed",
    "job.canceled",
    "job.expired",
    "batch.progress",
    "batch.completed",
]
EVENT_TYPES: tuple[str, ...] = get_args(EventType)
TERMINAL_EVENTS = frozenset({"job.succeeded", "job.failed", "job.canceled", "job.expired", "batch.completed"})


class DataUrl(str):
    """A picture as a data: URL: a text like any other, which is short where it is shown among other values."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<data: URL of {len(self)} characters>"


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `time` is in seconds since 1970, UTC; `data` depends on the type (docs/03-events.md)."""

    id: str
    type: str
    time: float
    job_id: str
    tenant: str
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def terminal(self) -> bool:
        """True for the one event that ends a job, and that of a batch."""
        return self.type in TERMINAL_EVENTS

    @property
    def when(self) -> datetime:
        """`time` as a datetime in UTC."""
        return datetime.fromtimestamp(self.time, UTC)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def decode(cls, entry_id: bytes, fields: Mapping[bytes, bytes]) -> "Event":
        """From a stream entry. Raises QueueBroken where the entry is none of ours."""
        try:
            text = {key.decode(): value.decode() for key, value in fields.items()}
            data = json.loads(text["data"])
            if not isinstance(data, dict):
                raise ValueError("data is no object")
            moment = float(text["time"])
            datetime.fromtimestamp(moment, UTC)  # there are numbers that no calendar has
            return cls(
                id=entry_id.decode(),
                type=text["type"],
                time=moment,
                job_id=text["job_id"],
                tenant=text["tenant"],
                data=data,
            )
        except (KeyError, ValueError, OverflowError, OSError, RecursionError) as error:
            raise QueueBroken(f"a stream entry is no event of ours: {error!r}") from None
