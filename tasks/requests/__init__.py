"""What a caller may ask for: one class per kind of job, in a file of its own.

A field left out is filled in at submit from the model's catalogue entry (`darkroom.tasks.validate`). Faults that need
no catalogue are found here, all at once. `Txt2Img(...)`, `parse_request` and the clients raise them as InvalidRequest;
where pydantic is asked (`model_validate`, a TypeAdapter, another model, FastAPI), it raises its own ValidationError.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, get_args

from pydantic import Discriminator, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from darkroom.tasks.errors import Fault, InvalidRequest
from darkroom.tasks.findings import faults_of, quotable
from darkroom.tasks.requests.base import KEPT, JobRequest
from darkroom.tasks.requests.decode import Decode
from darkroom.tasks.requests.embed import Embed
from darkroom.tasks.requests.encode import Encode
from darkroom.tasks.requests.finetune import Finetune
from darkroom.tasks.requests.img2img import Img2Img
from darkroom.tasks.requests.inpaint import Extend, Inpaint
from darkroom.tasks.requests.interpolate import Interpolate
from darkroom.tasks.requests.stylize import Style, Stylize
from darkroom.tasks.requests.txt2img import Txt2Img

__all__ = [
    "DEFAULT_KIND",
    "KINDS",
    "Decode",
    "Embed",
    "Encode",
    "Extend",
    "Finetune",
    "Img2Img",
    "Inpaint",
    "Interpolate",
    "JobRequest",
    "Request",
    "Style",
    "Stylize",
    "Txt2Img",
    "parse_request",
]

#: Every kind of job. Where fields do not say which one is meant, it is the first that has them all.
AnyKind = Txt2Img | Img2Img | Inpaint | Encode | Decode | Interpolate | Embed | Stylize | Finetune

KINDS: dict[str, type[JobRequest]] = {kind.model_fields["kind"].default: kind for kind in get_args(AnyKind)}
DEFAULT_KIND = next(iter(KINDS))


def _absent(name: str, kind: type[JobRequest]) -> Iterator[Fault]:
    """The fields that only other kinds have, each with the reason, or with their names."""
    for field in dict.fromkeys(field for other in KINDS.values() for field in other.model_fields):
        if field in kind.without:
            yield Fault(field, "not_supported", f"is not for {name}: {kind.without[field]}")
        elif field not in kind.model_fields:
            having = ", ".join(other for other, cls in KINDS.items() if field in cls.model_fields)
            yield Fault(field, "extra_forbidden", f"is not for {name}, but for {having}")


for _name, _kind in KINDS.items():
    _kind.absent = {fault.field: fault for fault in _absent(_name, _kind)}


def _of_a_kind(data: object, validate: ValidatorFunctionWrapHandler) -> object:
    try:
        return validate({"kind": DEFAULT_KIND, **data} if isinstance(data, dict) else data)
    except ValidationError as error:
        raise quotable(error) from None


# Told apart by `kind`, not by trial: faults are those of the kind that was meant.
Request = Annotated[AnyKind, Discriminator("kind"), WrapValidator(_of_a_kind)]


def parse_request(data: Any, *, kept: bool = False) -> Request:
    """A request from plain data (JSON, a mapping). Raises InvalidRequest with every fault.

    `kept`: of a record, which may have been taken in when less was refused; it is read all the same.
    """
    kind = data.get("kind", DEFAULT_KIND) if isinstance(data, Mapping) else None
    if not isinstance(kind, str) or kind not in KINDS:
        known = ", ".join(KINDS)
        why = f"is no kind of job; there are: {known}" if isinstance(data, Mapping) else "a request is a mapping"
        raise InvalidRequest([Fault("kind", "unknown_kind", why)])
    try:
        found: Request = KINDS[kind].model_validate(dict(data), context=KEPT if kept else None)  # type: ignore[assignment]
    except ValidationError as error:
        raise InvalidRequest(faults_of(error, KINDS[kind].absent)) from None
    return found
