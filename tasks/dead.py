"""Dead letters: jobs that were given up, and messages that were none.

A job lies here when its retries are used up, when it took workers with it, or when a fault of ours ended it. A request
that was wrong ends its job without a dead letter: nobody but the caller can do anything about it.
"""

import base64
import builtins
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict

from darkroom.tasks.errors import JobNotFailed, JobNotFinished, QueueBroken
from darkroom.tasks.job import Job, Jobs, State, canonical_id
from darkroom.tasks.records import get_each
from darkroom.tasks.redis_io import Key, Operation, command
from darkroom.tasks.requests import Request
from darkroom.tasks.results import OpenStore

_START_BYTES = 2000  # of a note that cannot be read
# The id of a job that is tried again follows from its first one's: asking twice, or once more after an answer that was
# lost, makes one new job.
_AGAIN = UUID("c0bedefb-24eb-4fff-942d-60cdc56ab7fc")


class GarbageNote(BaseModel):
    """Bytes in a queue that were no message of ours: when (seconds since 1970), where, why, and how they begin.

    `start` is base64. `time` is None where it is not known: of a note that is garbage itself.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    time: float | None
    queue: str
    reason: str
    bytes: int
    start: str

    @classmethod
    def decode(cls, raw: builtins.bytes) -> "GarbageNote":
        """From the list's entry; one that cannot be read makes a note that says so."""
        try:
            return cls.model_validate_json(raw)
        except ValueError:
            start = base64.b64encode(raw[:_START_BYTES]).decode()
            reason = "what was noted of it cannot be read; `start` has the note"
            return cls(time=None, queue="", reason=reason, bytes=len(raw), start=start)


def dead_jobs(limit: int, open_store: OpenStore) -> Operation[Jobs]:
    """Newest first. Ids whose record has expired since, or that never were any, are taken off the list."""
    members = yield command("ZREVRANGE", Key("dead"), 0, limit - 1)
    ids = {member.decode(errors="replace"): member for member in members}
    jobs = Jobs()
    for job_id, found in (yield from get_each(ids, open_store)).items():
        if found is None:
            yield command("ZREM", Key("dead"), ids[job_id])
        elif isinstance(found, QueueBroken):
            jobs.unreadable.append(job_id)
        else:
            jobs.append(found)
    return jobs


def garbage(limit: int) -> Operation[list[GarbageNote]]:
    """Newest first."""
    notes = yield command("LRANGE", Key("garbage"), 0, limit - 1)
    return [GarbageNote.decode(note) for note in notes]


def drop(job_id: str) -> Operation[bool]:
    """Takes a job off the list; its record stays. False where it is not on it."""
    removed = yield command("ZREM", Key("dead"), canonical_id(job_id))
    return bool(removed)


def drop_garbage() -> Operation[int]:
    """Empties the list of messages that were none; how many there were."""
    count, _ = yield [command("LLEN", Key("garbage")), command("DEL", Key("garbage"))]
    return int(count)


def asked_again(job: Job) -> tuple[Request, str]:
    """The request of a job that failed, and the id to submit it under: the same seeds, no key and no deadline of then.

    Raises JobNotFinished, JobNotFailed.
    """
    if not job.state.final:
        raise JobNotFinished(f"job {job.id} is {job.state}")
    if job.state is not State.FAILED:
        raise JobNotFailed(f"job {job.id} did not fail: it is {job.state}")
    again = job.request.model_copy(update={"idempotency_key": None, "start_by": None, "finish_by": None})
    return again, str(uuid5(_AGAIN, job.id))
