"""The types of a request's fields, each with what it refuses."""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, JsonValue, ValidationInfo
from pydantic_core import PydanticCustomError

from darkroom.tasks.catalogue import SCHEDULERS, scheduler_id
from darkroom.tasks.findings import in_words

MAX_SEED = 2**53 - 1  # safe in JSON: the largest integer that every reader keeps exact
MAX_METADATA_DEPTH = 50  # objects and lists in each other; readers in other languages go no deeper than 64
_LONGEST = 10_000  # more items than any list of a request may have; a range stands for more than memory holds

_FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_TIME_FORMS = "write ISO 8601 with a zone, such as 2030-01-31T18:00:00Z or 2030-01-31T19:00+01:00"


def _printable(text: str) -> str:
    found = _FORBIDDEN.search(text)
    if found:
        raise ValueError(f"has the control character U+{ord(found[0]):04X} at position {found.start()}")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return text


def _known_scheduler(name: object) -> object:
    if not isinstance(name, str):
        return name  # the type check that follows names the fault
    if scheduler_id(name) not in SCHEDULERS:
        raise ValueError(f"no such scheduler; there are: {', '.join(SCHEDULERS)}")
    return scheduler_id(name)


def _moment(value: object) -> datetime:
    """In UTC: an offset with seconds in it would not survive JSON. Pydantic itself would take 5 for a time in 1970."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(moment, datetime) and moment.utcoffset() is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise PydanticCustomError("invalid_time", "is no time with a zone: {forms}", {"forms": _TIME_FORMS})


def _json_object(value: object) -> object:
    """Pydantic checks the types; here is looked at what JSON cannot carry, or other readers would not take."""
    if not isinstance(value, dict):
        raise PydanticCustomError(
            "dict_type", "is not a JSON object, such as {example}", {"example": '{"channel": "art"}'}
        )
    if not value:
        return value
    if _deeper(value, MAX_METADATA_DEPTH):
        raise PydanticCustomError("too_deep", "is nested over {most} levels deep", {"most": MAX_METADATA_DEPTH})
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except ValueError as error:
        raise PydanticCustomError("not_json", "cannot be written as JSON: {why}", {"why": in_words(error)}) from None
    except TypeError:
        pass  # the type check that follows says where
    return value


def _deeper(value: object, most: int) -> bool:
    level = {id(value): value}
    for _ in range(most):
        level = {id(item): item for one in level.values() for item in _items(one) if isinstance(item, dict | list)}
        if not level:
            return False
    return True


def _items(value: object) -> Any:
    return value.values() if isinstance(value, dict) else value


def _listed(value: object) -> object:
    """Any sequence as the list that JSON has in its place; of one that is far too long the beginning."""
    is_text = isinstance(value, str | bytes | bytearray | memoryview)
    return list(islice(value, _LONGEST)) if isinstance(value, Sequence) and not is_text else value


def no_number(text: str, bounds: str) -> PydanticCustomError:
    """Of a text where a number belongs; `bounds` say which."""
    said = "is {text}, where a number {bounds} belongs" + ("; decimals have a point, as in 0.5" if "," in text else "")
    return PydanticCustomError("float_type", said, {"text": ascii(text[:40]), "bounds": bounds})


def one_or_several(*kinds: type[Any]) -> BeforeValidator:
    """Python's callers may leave out the brackets around one: a text, or an object of these classes."""

    def listed(value: object, info: ValidationInfo) -> object:
        return [value] if isinstance(value, (str, *kinds)) and info.mode == "python" else value

    return BeforeValidator(listed)


Reference = Annotated[str, AfterValidator(_printable)]
Text = Annotated[str, Field(max_length=10_000), AfterValidator(_printable)]
Prompt = Annotated[Text, AfterValidator(_not_blank)]
SchedulerName = Annotated[str, BeforeValidator(_known_scheduler)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Side = Annotated[int, Field(ge=8, le=16_384, multiple_of=8, description="pixels")]
Listed = BeforeValidator(_listed)
Extent = Annotated[list[Annotated[int, Field(ge=1, le=16_384)]], Field(min_length=2, max_length=2), Listed]
Corner = Annotated[list[Annotated[int, Field(ge=0, le=16_384)]], Field(min_length=2, max_length=2), Listed]
TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
Tenant = Annotated[str, Field(pattern=f"^{TENANT.pattern}$")]
User = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_printable)]
Moment = Annotated[AwareDatetime, BeforeValidator(_moment)]  # in JSON a text
Metadata = Annotated[dict[str, JsonValue], BeforeValidator(_json_object)]
