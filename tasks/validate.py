"""From a request to a job that can be run: the catalogue's limits, its defaults, and the seeds.

Everything that a worker needs is decided here, at submit, so that a job means the same whoever runs it and whenever.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter

from darkroom.tasks.catalogue import Catalogue, ModelOffer
from darkroom.tasks.errors import Fault, InvalidRequest
from darkroom.tasks.needs import further_models, lean, needs_of
from darkroom.tasks.own_loras import Belongings, Owned, seen_by
from darkroom.tasks.requests import DEFAULT_KIND, KINDS, JobRequest, Request, parse_request
from darkroom.tasks.requests.base import told

_STRICT = ConfigDict(strict=True)
MAX_REQUEST_BYTES = 320 * 1024  # as JSON; the largest data: URL has room in it

#: Of LoRAs that a worker lacks: no fault of a request that had them filled in when they were on offer.
_LACKS = {"adapter_missing", "unknown_lora", "lora_not_for_model"}


@dataclass(frozen=True, slots=True)
class Resolved:
    """A valid request: as it was asked, with every default filled in, and the model's offer."""

    asked: Request
    filled: Request
    offer: ModelOffer


def resolve(
    request: Request | Mapping[str, Any],
    catalogue: Catalogue,
    default_model: Callable[[], str | None],
    can: Callable[[str, Iterable[str]], bool] = lambda *_: True,
    *,
    kept: bool = False,
    own: Belongings = MappingProxyType({}),
) -> Resolved:
    """Fills in every default and one seed per image. Raises InvalidRequest with every fault.

    `can`: whether a worker that is there has these needs for a model; what it lacks is not filled in where that helps.
    `kept`: of a record or manifest, which may ask for things that have no say. `own`: what tenants have of the LoRAs
    that the request names.

    Faults of form and against the catalogue are named together, as far as the fields can be read. A request object is
    looked at again: `model_copy` and lists that were changed in it pass every check by.
    """
    asked = _parsed(_given(request) if isinstance(request, JobRequest) else request, catalogue, own)
    name = asked.model or default_model()
    offer = catalogue.get(name) if name else None
    if offer is None:
        raise InvalidRequest([_unknown_model(name, catalogue)])
    offer = seen_by(offer, own.get(asked.tenant, Owned()).offers)
    if faults := _faults_of(asked, offer, catalogue, kept=kept):
        raise InvalidRequest(faults)
    filled = asked.model_copy(update=asked.filled(offer))
    if not can(offer.name, needs_of(filled)):
        plainer = filled.model_copy(update=asked.plainer())
        filled = plainer if can(offer.name, needs_of(plainer)) else filled
    return Resolved(asked, filled, offer)


def check_kept(request: JobRequest, offer: ModelOffer, beside: Catalogue) -> None:
    """Raises InvalidRequest with every fault of a record's request that this model is to run.

    What `resolve` sees to at submit is looked at again, with the worker's own catalogue: another program may have
    written the record, or a limit be another by now. `beside`: the models that are served with it. LoRAs that this
    worker lacks are told of where they are looked for: the request was right.
    """
    faults = [
        Fault(name, "missing", "has no value: the request was not resolved")
        for name, value in request.filled(offer).items()
        if value is not None and getattr(request, name) is None
    ]
    faults += [
        Fault(f"loras.{number}.sha256", "missing", "has no value: the request was not resolved")
        for number, lora in enumerate(getattr(request, "loras", []))
        if lora.sha256 is None
    ]
    if request.model not in (None, offer.name):
        faults.append(Fault("model", "not_served", f"is {request.model}, and the job waited for {offer.name}"))
    faults += told(request.rules(offer))
    if beside.keys() >= set(further_models(request)):  # which of them is not served is said where it is looked for
        faults += told(request.rules_beside(offer, beside))
    if faults := [fault for fault in faults if fault.code not in _LACKS]:
        raise InvalidRequest(faults)


def _faults_of(request: JobRequest, offer: ModelOffer, catalogue: Catalogue, *, kept: bool) -> list[Fault]:
    idle = () if kept else request.idle(offer)
    return [*told(request.rules(offer)), *told(request.rules_beside(offer, catalogue)), *told(idle)]


def _given(request: JobRequest) -> dict[str, Any]:
    """The fields that were given, or changed since."""
    fields, given = type(request).model_fields, {"kind", *request.model_fields_set}
    return {name: value for name, value in request if name in given or value is not fields[name].default}


def _parsed(data: Mapping[str, Any], catalogue: Catalogue, own: Belongings) -> Request:
    try:
        return parse_request(data)
    except InvalidRequest as error:
        more = _catalogue_faults_of(data, error.faults, catalogue, own) if isinstance(data, Mapping) else []
        raise InvalidRequest([*error.faults, *more]) from None


def canonical(request: JobRequest) -> bytes:
    """The request as JSON bytes, the same for the same request. Raises InvalidRequest where these are too many."""
    data = json.dumps(
        lean(request), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False
    ).encode()
    if len(data) > MAX_REQUEST_BYTES:
        raise InvalidRequest([_too_large(len(data))])
    return data


def digest(request: JobRequest) -> str:
    """Tells whether two requests under one idempotency key are the same.

    Of what was given alone: a field that a later version adds does not make another request of it.
    """
    given = request.model_dump(mode="json", exclude_defaults=True) | {"kind": request.kind}
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()


def _too_large(size: int) -> Fault:
    hint = "client.upload(path) stores a picture and returns its key"
    return Fault("request", "request_too_large", f"{size} bytes, at most {MAX_REQUEST_BYTES} are allowed; {hint}")


def _unknown_model(name: str | None, catalogue: Catalogue) -> Fault:
    known = ", ".join(sorted(catalogue))
    if name is None:
        return Fault("model", "missing", f"name one of {known}")
    return Fault("model", "unknown_model", f"{name!r} is not in the catalogue; there are: {known}")


def _catalogue_faults_of(
    data: Mapping[str, Any], known: list[Fault], catalogue: Catalogue, own: Belongings
) -> list[Fault]:
    """Faults against the catalogue of a mapping that is broken elsewhere.

    Its broken fields are left out of the request, so that no rule which looks at one has a say (`told`).
    """
    broken = {fault.field.partition(".")[0] for fault in known}
    kind = KINDS.get(str(data.get("kind", DEFAULT_KIND)))
    if kind is None or "model" in broken or not isinstance(data.get("model"), str):
        return []
    entry = catalogue.get(data["model"])
    if entry is None:
        return [_unknown_model(data["model"], catalogue)]
    whole = {k: _read(kind, k, v) for k, v in data.items() if k in kind.model_fields and k not in broken}
    request = kind.model_construct(**whole)
    for field in broken:
        request.__dict__.pop(field, None)
    offer = seen_by(entry, own.get(str(request.readable("tenant")), Owned()).offers)
    return _faults_of(request, offer, catalogue, kept=False)


def _read(kind: type[JobRequest], field: str, value: Any) -> Any:
    """The value of an unbroken field, as the request would have it: a mapping as a model, a sequence as a list."""
    known = kind.model_fields[field]
    whole: Any = Annotated[known.annotation, Field(), *known.metadata]
    return TypeAdapter(whole, config=_STRICT).validate_python(value)
