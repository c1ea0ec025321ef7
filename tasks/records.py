"""Reading records: one, several at once, and a page of them. What cannot be read keeps nobody from the others."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from darkroom.tasks.errors import Fault, InvalidRequest, JobNotFound, QueueBroken
from darkroom.tasks.job import Job, Jobs, State, canonical_id, unreadable
from darkroom.tasks.redis_io import Call, Key, Operation, command, script
from darkroom.tasks.results import OpenStore

MAX_PAGE = 1000


def get(job_id: str, open_store: OpenStore) -> Operation[Job]:
    """The record. Raises JobNotFound, QueueBroken where it cannot be read."""
    job_id = canonical_id(job_id)
    found = (yield from get_each([job_id], open_store))[job_id]
    if found is None:
        raise JobNotFound(f"no job {job_id}")
    if isinstance(found, QueueBroken):
        raise found
    return found


def get_each(job_ids: Iterable[str], open_store: OpenStore) -> Operation[dict[str, Job | QueueBroken | None]]:
    """The records of any number of ids, in one pipeline; None where there is none, the error where it is unreadable."""
    wanted = list(dict.fromkeys(job_ids))
    replies = (yield [call for job_id in wanted for call in _reading(job_id)]) if wanted else []
    return {
        job_id: _decoded(fields, attempts, open_store)
        for job_id, fields, attempts in zip(wanted, replies[::2], replies[1::2], strict=True)
    }


def _reading(job_id: str) -> list[Call]:
    return [
        command("HGETALL", Key(f"job:{job_id}"), alone=True),
        command("LRANGE", Key(f"attempts:{job_id}"), 0, -1, alone=True),
    ]


def _decoded(fields: Any, attempts: Any, open_store: OpenStore) -> Job | QueueBroken | None:
    for reply in (fields, attempts):
        if isinstance(reply, QueueBroken):
            return unreadable(reply.message)
    try:
        return Job.decode(_pairs(fields), open_store, attempts) if fields else None
    except QueueBroken as error:
        return error


def jobs(
    tenant: str | None, states: Sequence[State], limit: int, before: str | None, open_store: OpenStore
) -> Operation[Jobs]:
    """Newest first, at most `limit`: fewer only where there are no more. `before`: the last id of the page before.

    Raises JobNotFound where that one is gone, InvalidRequest.
    """
    if type(limit) is not int or not 1 <= limit <= MAX_PAGE:
        raise InvalidRequest([Fault("limit", "out_of_range", f"{limit} is not within 1 to {MAX_PAGE}")])
    if tenant == "":  # would list everybody's
        raise InvalidRequest([Fault("tenant", "invalid_value", "is empty; None stands for all tenants")])
    found, last, score = Jobs(), canonical_id(before) if before else "", ""
    while True:
        page = yield script("list", tenant or "", limit, last, score, *states)
        if page is None:
            raise JobNotFound(f"no job {before}")
        for job_id, _, fields in page:
            try:
                found.append(Job.decode(_pairs(fields), open_store))
            except QueueBroken:  # of another version, say: it must not keep the others from being listed
                found.unreadable.append(job_id.decode(errors="replace"))
            if len(found) == limit:
                return found
        if len(page) < limit:
            return found
        last, score, _ = page[-1]


def _pairs(flat: Any) -> Mapping[bytes, bytes]:
    """A hash's fields: a script answers with a flat list, HGETALL with a mapping."""
    return flat if isinstance(flat, Mapping) else dict(zip(flat[::2], flat[1::2], strict=True))
