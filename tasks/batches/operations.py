"""What a producer can do with batches, written once for both clients."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from uuid_utils import uuid7

from darkroom.tasks.batches.models import Batch, BatchItem, id_of
from darkroom.tasks.errors import BatchNotFound, Fault, InvalidRequest
from darkroom.tasks.job import State
from darkroom.tasks.operations import Asked, Draft
from darkroom.tasks.records import MAX_PAGE
from darkroom.tasks.redis_io import Key, Operation, command, script
from darkroom.tasks.settings import TaskSettings
from darkroom.tasks.tenancy import check_tenant

PIECE = 200  # jobs that one script cancels
PAGE = 256  # items of one read
MOST_NAME = 200  # characters of a name, and of a custom_id

CancelBatch = Literal["canceled", "already_finished"]
Part = Literal["", "retry", "last"]  # what a job is in its batch, as scripts/submit.lua has it
_LONE = re.compile("[\ud800-\udfff]")  # halves of characters: they cannot be sent
_IDEMPOTENCY, _DIGEST = 8, 6  # places among the arguments of the submit script


class Place(NamedTuple):
    """A batch, by what its calls need."""

    id: str
    name: str
    tenant: str


def open_batch(
    name: str | None, tenant: str, metadata: Mapping[str, Any] | None, settings: TaskSettings
) -> Operation[Place]:
    """Makes it, or opens the one that there is. Raises InvalidRequest."""
    check_tenant(tenant)
    if name is not None:
        _check_name("name", name)
    place = Place(fresh := str(uuid7()), fresh, tenant) if name is None else Place(id_of(tenant, name), name, tenant)
    try:
        kept = json.dumps(dict(metadata or {}), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest([Fault("metadata", "invalid_value", f"is no JSON: {error}")]) from None
    open_ms = round(settings.batch_open_secs * 1000)
    yield script("batch_open", place.id, place.tenant, place.name, kept, open_ms, settings.job_ttl, settings.record_ttl)
    return place


def get(batch: str, tenant: str = "default") -> Operation[Batch]:
    """By id, or by the tenant's name for it. Raises BatchNotFound."""
    ids = [str(batch), id_of(tenant, str(batch))]
    for batch_id, fields in zip(ids, (yield [command("HGETALL", Key(f"batch:{one}")) for one in ids]), strict=True):
        if fields:
            return Batch.decode(batch_id, fields)
    raise not_found(batch)


def batches(tenant: str | None, limit: int, before: str | None) -> Operation[list[Batch]]:
    """Newest first. Raises BatchNotFound where `before` is gone, InvalidRequest."""
    if type(limit) is not int or not 1 <= limit <= MAX_PAGE:
        raise InvalidRequest([Fault("limit", "out_of_range", f"{limit} is not within 1 to {MAX_PAGE}")])
    if tenant is not None:
        check_tenant(tenant)
    page = yield script("batches", tenant or "", limit, before or "")
    if page is None:
        raise not_found(before)
    return [
        Batch.decode(batch_id.decode(), dict(zip(flat[::2], flat[1::2], strict=True)))
        for batch_id, flat in zip(page[::2], page[1::2], strict=True)
    ]


def request_of(place: Place, request: Asked) -> Asked:
    """The request as a job of the batch: of its tenant. Raises InvalidRequest where it names another."""
    if isinstance(request, Mapping):
        named = request.get("tenant")
    else:
        named = request.tenant if "tenant" in request.model_fields_set else None
    if named not in (None, place.tenant):
        raise InvalidRequest([Fault("tenant", "invalid_value", f"is {named!r}, and the batch is {place.tenant}'s")])
    if isinstance(request, Mapping):
        return {**request, "tenant": place.tenant}
    return request.model_copy(update={"tenant": place.tenant})


def try_request(place: Place, custom_id: str, request: Asked) -> Asked | InvalidRequest:
    """As `request_of`, of a job under this custom_id; the error where it cannot be one."""
    try:
        check_custom_id(custom_id)
        return request_of(place, request)
    except InvalidRequest as error:
        return error


def check_custom_id(custom_id: str) -> None:
    """Raises InvalidRequest."""
    _check_name("custom_id", custom_id)


def into(drafted: Draft, place: Place, custom_id: str, part: Part = "", digest: str | None = None) -> Draft:
    """The draft as a job of the batch. Its custom_id takes the place of an idempotency key.

    `digest`: of the request that it is held against when it is repeated; that of a job that is tried again.
    """
    args = list(drafted.call.args)
    args[_IDEMPOTENCY] = ""
    args[_DIGEST] = digest or args[_DIGEST]
    return replace(drafted, call=replace(drafted.call, args=[*args, place.id, custom_id, part]))


def seal(batch_id: str, record_ttl: int) -> Operation[None]:
    """Raises BatchNotFound."""
    if (yield script("batch_seal", batch_id, record_ttl)) == b"no_batch":
        raise not_found(batch_id)


def cancel(batch_id: str, record_ttl: int) -> Operation[CancelBatch]:
    """Piece by piece: between them others have their turn. Raises BatchNotFound."""
    answer = yield script("batch_cancel", batch_id, record_ttl)
    if answer == b"no_batch":
        raise not_found(batch_id)
    if answer == b"already_finished":
        return "already_finished"
    while (yield script("batch_work", batch_id, PIECE, record_ttl))[1] == b"canceling":
        pass
    return "canceled"


def work(record_ttl: int, most: int) -> Operation[dict[str, str]]:
    """The janitor's part, in at most so many pieces: what was done last, by batch id."""
    done: dict[str, str] = {}
    for _ in range(most):
        found = yield script("batch_work", "", PIECE, record_ttl)
        if not found:
            break
        done[found[0].decode(errors="replace")] = found[1].decode()
    return done


def items(batch_id: str, after: str | None) -> Operation[tuple[list[BatchItem], str | None]]:
    """A page of them, and after which the next begins: None where there is none. Raises BatchNotFound."""
    flat = yield script("batch_items", batch_id, after or "", PAGE)
    if flat is None:
        yield from get(batch_id)
        raise InvalidRequest([Fault("after", "invalid_value", f"{after!r} is no custom_id of this batch")])
    text = [value.decode() for value in flat]
    found = [BatchItem(one, job, State(state)) for one, job, state in _threes(text) if state]
    return found, text[-3] if len(text) == 3 * PAGE else None


def digest_of(job_id: str) -> Operation[str]:
    """Of the request that a job was submitted with first."""
    found = yield command("HGET", Key(f"job:{job_id}"), "digest")
    return found.decode() if found else ""


def not_found(batch: str | None) -> BatchNotFound:
    """The error."""
    return BatchNotFound(f"no batch {batch}")


def _threes(flat: list[str]) -> Iterator[tuple[str, str, str]]:
    return zip(flat[::3], flat[1::3], flat[2::3], strict=True)


def _check_name(field: str, name: str) -> None:
    if not isinstance(name, str) or not 1 <= len(name) <= MOST_NAME or _LONE.search(name):
        raise InvalidRequest([Fault(field, "invalid_value", f"must be a text of 1 to {MOST_NAME} characters")])
