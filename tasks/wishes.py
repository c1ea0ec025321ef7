"""What a job's owner may wish of it while it runs: kept in its record until its worker has met it, between two steps.

A worker that dies leaves the wish to the next one. Each has a number, and is met by it: one that was wished again
meanwhile is still to be met.
"""

from typing import Literal, NamedTuple

from darkroom.tasks.claims import Claim, Hold
from darkroom.tasks.errors import JobNotFound, WishNotSupported
from darkroom.tasks.records import get
from darkroom.tasks.redis_io import Key, Operation, command, script
from darkroom.tasks.results import no_store

WISHES = ("save", "sample")  # as in `scripts/shared/records.lua`
WishAnswer = Literal["requested", "not_begun", "cancellation_requested", "already_finished", "not_found"]

_DONE = {"save": "saved", "sample": "sampled"}


class Wish(NamedTuple):
    """One that waits to be met."""

    what: str
    number: int


def wish(job_id: str, what: str, tenant: str | None = None) -> Operation[WishAnswer]:
    """What became of the wish. `tenant`: jobs of others are not found. Raises WishNotSupported, QueueBroken."""
    try:
        job = yield from get(job_id, no_store)
    except JobNotFound:
        return "not_found"
    if tenant not in (None, job.tenant):
        return "not_found"
    if what not in job.request.wishes:
        raise WishNotSupported(f"job {job.id}, of the kind {job.kind}, cannot be {_DONE[what]}")
    reply = yield script("wish", job.id, what)
    answer: WishAnswer = reply.decode()
    return answer


def wished(held: Claim) -> Operation[list[Wish]]:
    """Those that wait to be met."""
    names = [f"wish/{what}" for what in WISHES]
    numbers = yield command("HMGET", Key(f"job:{held.job_id}"), *names)
    return [Wish(what, int(number)) for what, number in zip(WISHES, numbers, strict=True) if number]


def met(held: Claim, one: Wish) -> Operation[Hold]:
    """Takes a wish back that was met; one that was wished anew stays."""
    reply = yield script("met", held.job_id, held.token, one.what, one.number)
    return Hold(reply.decode())
