"""The worker's side of the record: taking a job under a lease, and writing under its claim token.

Every write is one script that checks the token: a worker that lost its lease can write and publish nothing.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import uuid4

from darkroom.tasks.catalogue import ModelOffer
from darkroom.tasks.errors import DarkroomError
from darkroom.tasks.job import JobError, JobResult, State, StoredImage
from darkroom.tasks.message import knock, queue_name
from darkroom.tasks.redis_io import Operation, script
from darkroom.tasks.requests import Request, parse_request


class Hold(StrEnum):
    """What a worker learns of its claim whenever it writes."""

    HELD = "held"
    CANCEL = "cancel"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Claim:
    """A job taken under a lease. `number` counts the claims of this job; times in seconds."""

    job_id: str
    token: str
    request: Request
    warnings: list[str]
    number: int
    waited: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a knock was dropped: the job's state, `missing`, `not_served`, or `unreadable` (the job was failed then)."""

    job_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Overdue:
    """A job that the janitor must look at. `lane` is `{model}:{lane}`, empty where its record is gone."""

    job_id: str
    lane: str
    reason: str


def claim(
    job_id: str, worker: str, lease_seconds: float, record_ttl: int, models: Iterable[str] = ()
) -> Operation[Claim | Refusal]:
    """Takes the job if it waits, or if its lease is over, and if it is for one of the models (none: any)."""
    token = uuid4().hex
    reply = yield script("claim", job_id, token, worker, round(lease_seconds * 1000), record_ttl, *models)
    verdict = reply[0].decode()
    if verdict != "claimed":
        return Refusal(job_id, verdict)
    _, request, warnings, number, created, started = reply
    waited = (float(started) - float(created)) / 1000
    try:
        asked = parse_request(json.loads(request))
    except (DarkroomError, ValueError) as error:  # of a newer producer, say; left alone it would be claimed for ever
        hint = "give the workers the producers' version of darkroom"
        failure = JobError(code="request_unreadable", message=f"the worker cannot read it: {error}"[:500], hint=hint)
        yield script("finish", job_id, token, State.FAILED, "error", failure.model_dump_json(),
                     json.dumps({"error": failure.model_dump()}), record_ttl)  # fmt: skip
        return Refusal(job_id, "unreadable")
    return Claim(job_id, token, asked, json.loads(warnings), int(number), waited)


def renew(claims: Sequence[Claim], lease_seconds: float) -> Operation[list[Hold]]:
    """Renews all leases of a worker and reads all cancel marks."""
    pairs = [part for held in claims for part in (held.job_id, held.token)]
    replies = yield script("renew", round(lease_seconds * 1000), *pairs)
    return [Hold(reply.decode()) for reply in replies]


def progress(held: Claim, data: Mapping[str, object], preview: bytes | None) -> Operation[Hold]:
    """Publishes a step; `preview` is a small JPEG."""
    reply = yield script("progress", held.job_id, held.token, json.dumps(data), preview or b"")
    return Hold(reply.decode())


def image(held: Claim, stored: StoredImage) -> Operation[Hold]:
    """Records one picture that is in the store."""
    reply = yield script("image", held.job_id, held.token, stored.index, stored.model_dump_json())
    return Hold(reply.decode())


def succeed(held: Claim, result: JobResult, images: Sequence[StoredImage], record_ttl: int) -> Operation[bool]:
    """Ends the job well; False where the claim was lost."""
    data = {**result.model_dump(), "images": [stored.model_dump() for stored in images]}
    return (yield from _finish(held, State.SUCCEEDED, ("result", result.model_dump_json()), data, record_ttl))


def fail(held: Claim, error: JobError, record_ttl: int) -> Operation[bool]:
    """Ends the job with an error; False where the claim was lost."""
    data = {"error": error.model_dump()}
    return (yield from _finish(held, State.FAILED, ("error", error.model_dump_json()), data, record_ttl))


def confirm_cancel(held: Claim, record_ttl: int) -> Operation[bool]:
    """Ends the job as its owner wished; False where the claim was lost."""
    return (yield from _finish(held, State.CANCELED, ("", ""), {}, record_ttl))


def _finish(
    held: Claim, state: State, kept: tuple[str, str], data: Mapping[str, object], record_ttl: int
) -> Operation[bool]:
    reply = yield script("finish", held.job_id, held.token, state, *kept, json.dumps(data), record_ttl)
    return bool(reply == b"done")


def overdue(patience_seconds: float, most: int) -> Operation[list[Overdue]]:
    """Jobs whose lease is over or whose message was lost."""
    flat = yield script("overdue", round(patience_seconds * 1000), most)
    text = [part.decode() for part in flat]
    return [Overdue(*three) for three in zip(text[::3], text[1::3], text[2::3], strict=True)]


def requeue(found: Overdue, record_ttl: int) -> Operation[str]:
    """Knocks again. `queued`, `knocked`, `canceled`, or `kept` where nothing was to be done."""
    message = knock(found.job_id, queue_name(*found.lane.rsplit(":", 1))) if found.lane else ""
    reply = yield script("requeue", found.job_id, found.reason, message, record_ttl)
    return str(reply.decode())


def serve(worker: str, about: Mapping[str, object], ttl: int, offers: Sequence[ModelOffer]) -> Operation[None]:
    """Says what a worker serves, for so many seconds."""
    published = [part for offer in offers for part in (offer.name, offer.model_dump_json())]
    yield script("serve", worker, json.dumps(about), ttl, *published)


def retire(worker: str, models: Sequence[str]) -> Operation[None]:
    """Takes the word back."""
    yield script("retire", worker, *models)
