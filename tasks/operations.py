"""What a producer can do, written once: `Darkroom` and `AsyncDarkroom` run these on their own kind of I/O."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal, NamedTuple
from uuid import UUID

from uuid_utils import uuid7

from darkroom.tasks.errors import (
    BatchCanceled,
    BatchNotFound,
    BatchSealed,
    DarkroomError,
    Fault,
    IdempotencyConflict,
    InvalidRequest,
    JobNotFinished,
    JobNotFound,
    QueueBroken,
    QueueError,
    QueueFull,
    QuotaExceeded,
)
from darkroom.tasks.job import Job, State, canonical_id
from darkroom.tasks.message import knock
from darkroom.tasks.models import Market
from darkroom.tasks.own_loras import Belongings
from darkroom.tasks.places import Place
from darkroom.tasks.records import get
from darkroom.tasks.redis_io import Call, Key, Operation, command, script
from darkroom.tasks.requests import Request, parse_request
from darkroom.tasks.results import no_store
from darkroom.tasks.settings import TaskSettings
from darkroom.tasks.validate import canonical, digest, resolve

Asked = Request | Mapping[str, Any]
LEAST_RETRY_SECONDS = 1.0  # after a refusal

_NOTHING: Belongings = MappingProxyType({})
CancelAnswer = Literal["canceled", "cancellation_requested", "already_finished", "not_found"]


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job that was taken in. `repeated`: it was there already, under this id or idempotency key."""

    id: str
    seeds: list[int]
    model: str
    warnings: list[str]
    repeated: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "id": self.id,
            "seeds": self.seeds,
            "model": self.model,
            "warnings": self.warnings,
            "repeated": self.repeated,
        }


@dataclass(frozen=True)
class Handle:
    """A job that was taken in; the clients' handles add the calls that concern it."""

    submitted: Submitted

    @property
    def id(self) -> str:
        """The job's id."""
        return self.submitted.id

    @property
    def seeds(self) -> list[int]:
        """One per image, fixed; none where the kind draws nothing by lot."""
        return self.submitted.seeds

    @property
    def warnings(self) -> list[str]:
        """`no_worker`, `prompt_truncated`, `negative_prompt_ignored`, `guidance_rescale_ignored`."""
        return self.submitted.warnings


class Position(NamedTuple):
    """An estimate of what goes before a job that waits: how many jobs, and how many seconds they take.

    As if nobody else submitted anything. `seconds` is None until a job of the model has ended.
    """

    jobs: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that may be forgotten; `made`: its record names objects."""

    id: str
    made: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item of `submit_many`: a job, or why it was refused."""

    index: int
    job: Submitted | None = None
    error: DarkroomError | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """A request on its way into Redis."""

    id: str
    call: Call
    warnings: list[str]


def draft(
    request: Asked, market: Market, settings: TaskSettings, job_id: str | None = None, own: Belongings = _NOTHING
) -> Draft:
    """Validates a request and writes the call that submits it. Raises InvalidRequest with every fault.

    `own`: what tenants have of the LoRAs that it names (`darkroom.tasks.own_loras.read_named`).
    """
    identity = _job_id(job_id)
    resolved = resolve(request, market.offers, lambda: settings.default_model or market.meant(), market.can, own=own)
    filled, offer = resolved.filled, resolved.offer
    lasting = list(filled.warnings(offer))
    place = Place.of(filled)
    call = script(
        "submit",
        identity,
        filled.tenant,
        offer.name,
        str(place),
        filled.kind,
        canonical(filled),
        digest(resolved.asked),
        json.dumps(lasting),
        filled.idempotency_key or "",
        settings.idempotency_ttl,
        knock(identity, place.queue),
        _milliseconds(filled.start_by),
        _milliseconds(filled.finish_by),
        settings.queue_limit,
        settings.job_ttl,
        json.dumps(place.needs) if place.needs else "",
        filled.cost(offer),
        filled.priority,
        filled.user or "",
    )
    return Draft(identity, call, lasting if market.can(offer.name, place.needs) else ["no_worker", *lasting])


def _milliseconds(moment: datetime | None) -> int | str:
    return "" if moment is None else round(moment.timestamp() * 1000)


def _job_id(job_id: str | None) -> str:
    if job_id is None:
        return str(uuid7())
    try:
        return str(UUID(str(job_id)))
    except ValueError:
        raise InvalidRequest([Fault("job_id", "invalid_value", "is no UUID")]) from None


def submit(drafted: Draft) -> Operation[Submitted]:
    """Sends one draft. A QueueError carries the job's id: submitting again under it is safe."""
    try:
        reply = yield drafted.call
    except QueueError as error:
        error.job_id = drafted.id
        raise
    return _submitted(drafted, reply)


def submit_batch(drafts: Sequence[Draft]) -> Operation[list[Submitted | DarkroomError]]:
    """Sends drafts in one pipeline; a conflict, or what Redis refuses of one, concerns its own item alone."""
    replies = yield [replace(drafted.call, alone=True) for drafted in drafts]
    results: list[Submitted | DarkroomError] = []
    for drafted, reply in zip(drafts, replies, strict=True):
        try:
            results.append(_submitted(drafted, reply))
        except DarkroomError as error:
            results.append(error)
    return results


def _submitted(drafted: Draft, reply: list[bytes] | QueueError) -> Submitted:
    if isinstance(reply, QueueError):
        reply.job_id = drafted.id
        raise reply
    verdict = reply[0].decode()
    if verdict == "full":
        raise QueueFull(f"{int(reply[1])} jobs wait in this lane already")
    if verdict == "quota":
        raise _over_quota(reply)
    if verdict in _NO_PLACE:
        raise _NO_PLACE[verdict]("the batch takes no more jobs" if verdict != "no_batch" else "there is no such batch")
    job_id, request = reply[1].decode(), json.loads(reply[2])
    if verdict == "conflict":
        raise IdempotencyConflict(f"job {job_id} was submitted with another request under this key or id")
    seeds = request["seeds"] if "seeds" in request else parse_request(request, kept=True).all_seeds
    return Submitted(job_id, seeds, request["model"], drafted.warnings, repeated=verdict == "repeated")


_NO_PLACE = {"no_batch": BatchNotFound, "batch_sealed": BatchSealed, "batch_canceled": BatchCanceled}


def _over_quota(reply: list[Any]) -> QuotaExceeded:
    whose, waiting, most, after_ms = reply[1].decode(), int(reply[2]), float(reply[3]), int(reply[4])
    found = QuotaExceeded(f"{waiting} jobs of this {whose} wait already, and {most:g} may")
    found.retry_after = max(LEAST_RETRY_SECONDS, after_ms / 1000)
    return found


def cancel(job_id: str, record_ttl: int) -> Operation[CancelAnswer]:
    """What became of the wish, and true."""
    reply = yield script("cancel", canonical_id(job_id), record_ttl)
    answer: CancelAnswer = reply.decode()
    return answer


def position(job_id: str) -> Operation[Position | None]:
    """What goes before it, about; None where it does not wait. Raises JobNotFound."""
    state, jobs, milliseconds = yield script("position", canonical_id(job_id))
    if not state:
        raise JobNotFound(f"no job {job_id}")
    return None if jobs < 0 else Position(int(jobs), None if milliseconds < 0 else milliseconds / 1000)


def forget(job_id: str) -> Operation[None]:
    """Deletes record and events of a job that nobody works on. Raises JobNotFound, JobNotFinished."""
    reply = yield script("delete", canonical_id(job_id))
    if reply == b"active":
        raise JobNotFinished(f"job {job_id} has not ended")
    if reply == b"not_found":
        raise JobNotFound(f"no job {job_id}")


def ended(job_id: str) -> Operation[Ended]:
    """A job that nobody works on: it has ended, or its record cannot be read. Raises JobNotFound, JobNotFinished."""
    try:
        job: Job | None = yield from get(job_id, no_store)
    except QueueBroken:
        job = None
    if job is None or not job.state.final:
        yield from _refuse_active(job_id)
    return Ended(canonical_id(job_id), made=bool(job and job.object_keys))


def _refuse_active(job_id: str) -> Operation[None]:
    """Raises JobNotFinished unless the job has ended, or the scripts cannot read it: then nobody looks after it."""
    try:
        state, *_ = yield script("position", canonical_id(job_id))
    except QueueBroken:
        return
    if state and not State(state.decode()).final:
        raise JobNotFinished(f"job {job_id} is {state.decode()}")


def ping() -> Operation[None]:
    """Asks Redis for a sign of life that needs the rights of every day."""
    yield command("EXISTS", Key("clock"))


def states(chosen: State | str | Sequence[State | str] | None) -> list[State]:
    """States by name; all of them for None. Raises InvalidRequest."""
    wanted = [chosen] if isinstance(chosen, str) else list(State if chosen is None else chosen)
    try:
        return [State(state) for state in wanted]
    except ValueError as error:
        raise InvalidRequest([Fault("state", "invalid_value", f"{error}; there are: {', '.join(State)}")]) from None


def unsent(drafted: Draft, error: QueueError) -> DarkroomError:
    """The error of one item of a batch that Redis failed, with the id under which to try again."""
    own = type(error)(error.message, hint=error.hint)
    own.job_id = drafted.id
    return own


def outcomes(
    batch: Sequence[tuple[int, Any]],
    drafts: Sequence[Draft | DarkroomError],
    results: Sequence[Submitted | DarkroomError],
) -> Iterator[Outcome]:
    """Joins the items of a batch with what became of them, in their order."""
    answered = iter(results)
    for (index, _), drafted in zip(batch, drafts, strict=True):
        found = next(answered) if isinstance(drafted, Draft) else drafted
        yield Outcome(index, found) if isinstance(found, Submitted) else Outcome(index, error=found)


def owner(job_id: str) -> Operation[str | None]:
    """The tenant that a job belongs to, if there is such a job."""
    tenant = yield command("HGET", Key(f"job:{job_id}"), "tenant")
    return tenant.decode() if tenant else None
