"""Dead letters: jobs that were given up, and messages that were none.

A job lies here when its retries are used up, when it took workers with it, or when a fault of ours ended it. A request
that was wrong ends its job without a dead letter: nobody but the caller can do anything about it.
"""

import builtins
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from darkroom.tasks.errors import JobNotFinished, JobNotFound
from darkroom.tasks.job import Job, OpenStore
from darkroom.tasks.operations import get
from darkroom.tasks.redis_io import Key, Operation, command
from darkroom.tasks.requests import Request


@dataclass(frozen=True, slots=True)
class GarbageNote:
    """Bytes in a queue that were no message of ours: when (seconds since 1970), where, why, and how they begin."""

    time: float
    queue: str
    reason: str
    bytes: int
    start: str

    @classmethod
    def decode(cls, raw: str | builtins.bytes) -> "GarbageNote":
        """From the list's entry."""
        fields: Mapping[str, Any] = json.loads(raw)
        return cls(**{name: fields[name] for name in cls.__slots__})


def dead_jobs(limit: int, open_store: OpenStore) -> Operation[list[Job]]:
    """Newest first. Records that have expired since are taken off the list."""
    ids = yield command("ZREVRANGE", Key("dead"), 0, limit - 1)
    jobs = []
    for member in ids:
        try:
            jobs.append((yield from get(member.decode(), open_store)))
        except JobNotFound:
            yield command("ZREM", Key("dead"), member)
    return jobs


def garbage(limit: int) -> Operation[list[GarbageNote]]:
    """Newest first."""
    notes = yield command("LRANGE", Key("garbage"), 0, limit - 1)
    return [GarbageNote.decode(note) for note in notes]


def drop(job_id: str) -> Operation[bool]:
    """Takes a job off the list; its record stays. False where it is not on it."""
    removed = yield command("ZREM", Key("dead"), job_id)
    return bool(removed)


def drop_garbage() -> Operation[int]:
    """Empties the list of messages that were none; how many there were."""
    count, _ = yield [command("LLEN", Key("garbage")), command("DEL", Key("garbage"))]
    return int(count)


def asked_again(job: Job) -> Request:
    """The request of a job that ended, to be submitted as a new one: the same seeds, no key and no deadline of then.

    Raises JobNotFinished.
    """
    if not job.state.final:
        raise JobNotFinished(f"job {job.id} is {job.state}")
    return job.request.model_copy(update={"idempotency_key": None, "start_by": None, "finish_by": None})
