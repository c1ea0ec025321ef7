"""The worker's side of the record: taking a job under a lease, and writing under its claim token.

Every write is one script that checks the token: a worker that lost its lease can write and publish nothing.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from uuid import uuid4

from darkroom.tasks.catalogue import ModelName, ModelOffer
from darkroom.tasks.errors import DarkroomError
from darkroom.tasks.job import JobError, JobResult, State
from darkroom.tasks.offers import released
from darkroom.tasks.places import Has, Place
from darkroom.tasks.redis_io import Operation, script
from darkroom.tasks.requests import Request, parse_request
from darkroom.tasks.results import StoredFile, StoredImage, StoredResult
from darkroom.tasks.settings import TaskSettings

LONGEST_BACKOFF_SECONDS = 300.0
SHARE = 0.05  # of a class of lanes beside those that go before it
_NO_WISH = ("", 0)


class Hold(StrEnum):
    """What a worker learns of its claim whenever it writes."""

    HELD = "held"
    WATCHED = "watched"  # held, and somebody watches the job; said by the renewal alone
    WISH = "wish"  # held, and its owner wishes something of it (`darkroom.tasks.wishes`)
    CANCEL = "cancel"
    EXPIRED = "expired"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Claim:
    """A job taken under a lease. `number` counts the claims of this job, `failures` its failures; times in seconds.

    `model` is that of the lane, which the worker serves; the request of a record may say anything. `watched`: somebody
    watches it already.
    """

    job_id: str
    token: str
    model: ModelName
    request: Request
    warnings: list[str]
    number: int
    failures: int
    waited: float
    watched: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a knock led to nothing: no job may start (`nothing`); or, of just one, its state, `missing`, `not_served`, or
    `unreadable`.

    An unreadable job was failed, unless its record lacks what even that needs.
    """

    job_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Overdue:
    """A job that the janitor must look at. `lane` is its whole name, empty where its record is gone."""

    job_id: str
    lane: str
    reason: str


def claim(
    job_id: str,
    worker: str,
    lease_seconds: float,
    rules: TaskSettings,
    has: Has | None = None,
    token: str | None = None,
) -> Operation[Claim | Refusal]:
    """Takes just this job if it waits, or if its lease is over, and if the worker serves its model and has its needs.

    `has`: what the worker has for each model that it serves; None: for any, whatever a job needs. After a QueueError,
    asking again under the same token takes the job once.
    """
    return (yield from _claim(job_id, "", worker, lease_seconds, rules, has, token))


def claim_next(
    places: Sequence[Place],
    worker: str,
    lease_seconds: float,
    rules: TaskSettings,
    has: Has,
    *,
    token: str | None = None,
    named: str = "",
    share: float = SHARE,
) -> Operation[Claim | Refusal]:
    """Takes the job whose turn it is in these lanes (`scripts/shared/turns.lua`); a Refusal where there is none.

    `named`: the job that a knock names, for those whom a producer of before put into the lane. `share` of the service
    goes to bulk beside interactive jobs, and likewise to trainings. After a QueueError, asking again under the same
    token has the job that it took.
    """
    lanes = json.dumps([str(place) for place in places])
    return (yield from _claim(named, lanes, worker, lease_seconds, rules, has, token, share))


def _claim(
    job_id: str,
    lanes: str,
    worker: str,
    lease_seconds: float,
    rules: TaskSettings,
    has: Has | None,
    token: str | None,
    share: float = SHARE,
) -> Operation[Claim | Refusal]:
    token = token or uuid4().hex
    lease_ms = round(lease_seconds * 1000)
    mine = "" if has is None else json.dumps({model: sorted(found) for model, found in has.items()})
    asked = (job_id, token, worker, lease_ms, rules.max_losses, rules.record_ttl, mine, lanes, share)
    verdict, *found = yield script("claim", *asked)
    taken = found[0].decode(errors="replace")
    if verdict != b"claimed":
        return Refusal(taken, verdict.decode())
    try:
        return _claimed(taken, token, found[1:])
    except (DarkroomError, ValueError, TypeError, RecursionError) as error:
        # Of a newer producer, say; left alone it would be claimed for ever.
        hint = "give the workers the producers' version of darkroom"
        message = f"the worker cannot read it: {error}".encode(errors="replace").decode()[:500]
        failure = JobError(code="request_unreadable", message=message, hint=hint)
        yield script("retry", taken, token, failure.model_dump_json(), 0, 0, rules.record_ttl)
        return Refusal(taken, "unreadable")


def _claimed(job_id: str, token: str, fields: Sequence[bytes]) -> Claim:
    model, request, warnings, number, failures, queued, started, watched = fields
    waited = (float(started) - float(queued)) / 1000
    asked = parse_request(json.loads(request), kept=True)
    counts = int(number), int(failures), waited
    return Claim(job_id, token, model.decode(), asked, json.loads(warnings), *counts, watched=bool(watched))


def renew(
    claims: Sequence[Claim], lease_seconds: float, steps: Mapping[str, str] = MappingProxyType({})
) -> Operation[list[Hold]]:
    """Renews all leases of a worker and reads all cancel marks and wishes, and who is watched.

    `steps`: how far a job is (JSON, as of `progress`), by its token; of those whose steps are not published.
    """
    held = [part for one in claims for part in (one.job_id, one.token, steps.get(one.token, ""))]
    replies = yield script("renew", round(lease_seconds * 1000), *held)
    return [Hold(reply.decode()) for reply in replies]


def progress(held: Claim, data: Mapping[str, object], preview: bytes | None) -> Operation[Hold]:
    """Publishes a step; `preview` is a small JPEG."""
    reply = yield script("progress", held.job_id, held.token, json.dumps(data), preview or b"")
    return Hold(reply.decode())


def waiting(held: Claim, reason: str, code: str) -> Operation[Hold]:
    """Tells those who watch that the job waits for something, and the code of what is wrong with it."""
    reply = yield script("waiting", held.job_id, held.token, json.dumps({"reason": reason, "code": code}))
    return Hold(reply.decode())


def image(held: Claim, stored: StoredImage) -> Operation[Hold]:
    """Records one picture that is in the store."""
    return (yield from _made(held, "image", str(stored.index), stored))


def file(
    held: Claim, stored: StoredFile, *, goes_on: bool = False, meets: tuple[str, int] = _NO_WISH
) -> Operation[Hold]:
    """Records one file that is in the store. `goes_on`: from it the job can go on, so its losses count anew.

    `meets`: the wish of the job's owner that it is (`darkroom.tasks.wishes`).
    """
    return (yield from _made(held, "file", stored.place, stored, "1" if goes_on else "", *meets))


def _made(held: Claim, what: str, place: str, stored: StoredResult, *more: str | int) -> Operation[Hold]:
    text = stored.model_dump_json()
    reply = yield script("made", held.job_id, held.token, what, place, text, *(more or ("", *_NO_WISH)))
    return Hold(reply.decode())


def succeed(
    held: Claim,
    result: JobResult,
    images: Sequence[StoredImage],
    rules: TaskSettings,
    files: Sequence[StoredFile] = (),
) -> Operation[bool]:
    """Ends the job well; False where the claim was lost."""
    made = {"images": [image.model_dump() for image in images], "files": [file.model_dump() for file in files]}
    data = {**result.model_dump(), **made}
    return (yield from _finish(held, State.SUCCEEDED, ("result", result.model_dump_json()), data, rules))


def fail(held: Claim, error: JobError, rules: TaskSettings) -> Operation[bool]:
    """Ends an attempt with an error: what may pass by itself is tried again after a while, what the caller must change
    ends the job, anything else ends it among the dead letters. False where the claim was lost.
    """
    text = error.model_dump_json()
    if error.callers_fault:
        return (yield from _finish(held, State.FAILED, ("error", text), {"error": error.model_dump()}, rules))
    most = rules.max_attempts if error.retryable else 0
    delay = backoff(held.failures, rules.retry_seconds)
    reply = yield script("retry", held.job_id, held.token, text, round(delay * 1000), most, rules.record_ttl)
    return bool(reply != b"lost")


def backoff(failures: int, first: float) -> float:
    """Seconds until the next try after so many earlier failures: fourfold each time, at most 5 minutes, with jitter."""
    return min(first * 4.0**failures, LONGEST_BACKOFF_SECONDS) * random.uniform(0.5, 1.0)


def hand_back(held: Claim, rules: TaskSettings, reason: str = "drained") -> Operation[bool]:
    """Gives the job to another worker at once; costs no attempt. One that is canceled or too late by now ends instead.

    False where the claim was lost.
    """
    reply = yield script("hand_back", held.job_id, held.token, rules.record_ttl, reason)
    return bool(reply == b"done")


def confirm_cancel(held: Claim, rules: TaskSettings) -> Operation[bool]:
    """Ends the job as its owner wished; False where the claim was lost."""
    return (yield from _finish(held, State.CANCELED, ("", ""), {}, rules))


def confirm_expired(held: Claim, rules: TaskSettings) -> Operation[bool]:
    """Ends the job at its deadline; False where the claim was lost."""
    return (yield from _finish(held, State.EXPIRED, ("", ""), {"deadline": "finish_by"}, rules))


def _finish(
    held: Claim, state: State, kept: tuple[str, str], data: Mapping[str, object], rules: TaskSettings
) -> Operation[bool]:
    reply = yield script("finish", held.job_id, held.token, state, *kept, json.dumps(data), rules.record_ttl)
    return bool(reply == b"done")


def overdue(most: int) -> Operation[list[Overdue]]:
    """Jobs whose lease or deadline is over, or whose next try is due; knocks at lanes whose knocks were lost."""
    flat = yield script("overdue", most)
    text = [part.decode() for part in flat]
    return [Overdue(*three) for three in zip(text[::3], text[1::3], text[2::3], strict=True)]


def requeue(found: Overdue, rules: TaskSettings) -> Operation[str]:
    """Does what is due: `queued`, `let_in`, `canceled`, `expired`, `failed`; `kept` where nothing is.

    `unreadable`, once, for a record that lacks what the scripts need: nobody looks after that job any more.
    """
    reply = yield script("requeue", found.job_id, found.lane, found.reason, rules.max_losses, rules.record_ttl)
    return str(reply.decode())


def knock_again(places: Sequence[Place]) -> Operation[None]:
    """Puts back a knock that was not followed: one for each lane in which a job may start."""
    yield script("knock", *map(str, places))


def serve(
    worker: str, about: Mapping[str, object], ttl: int, offers: Sequence[ModelOffer], has: Has | None = None
) -> Operation[None]:
    """Says what a worker serves, and what it has for it beyond the first release, for so many seconds."""
    mine = has or {}
    serves = {
        offer.name: json.dumps({"offer": offer.model_dump(mode="json"), "has": sorted(mine.get(offer.name, ()))})
        for offer in offers
    }
    published = [part for offer in offers for part in _published(offer)]
    yield script("serve", worker, json.dumps({**about, "serves": serves}), ttl, *published)


def _published(offer: ModelOffer) -> tuple[str, str, str, str]:
    return offer.name, "1" if offer.base else "", released(offer), offer.model_dump_json()


def retire(worker: str, models: Sequence[str]) -> Operation[None]:
    """Takes the word back."""
    yield script("retire", worker, *models)
