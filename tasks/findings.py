"""Pydantic's findings in other words: as faults of ours, and as an answer in JSON can carry them."""

import json
import reprlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from darkroom.tasks.errors import Fault
from darkroom.tasks.families import NAME
from darkroom.tasks.sources import SHA256

#: What pydantic says of Python, by its codes, in words for people.
_WORDS = {
    "model_type": "should be an object of named values",
    "model_attributes_type": "should be an object of named values",
    "string_unicode": "has a lone surrogate, which is no text",
    "invalid-json-value": "is no value that JSON has",
    "extra_forbidden": "there is no such field",
    "missing": "is missing",
}

#: What a text is not, by the pattern that it does not match.
_FORMS = {
    NAME: "is no name: at most 64 small letters, digits and . _ - make one, which begins with a letter or a digit",
    SHA256: "is no SHA-256: 64 digits and small letters from a to f",
}


def faults_of(error: ValidationError, absent: Mapping[str, Fault] = MappingProxyType({})) -> list[Fault]:
    """One per field and cause. `absent`: what is said of fields that cannot be there, by their names."""
    found: dict[tuple[str, str], Fault] = {}
    for item in error.errors(include_url=False, include_input=False):
        field = ".".join(_shown(str(part))[:100] for part in item["loc"]) or "request"
        code = "invalid_value" if item["type"] == "value_error" else item["type"]
        message = words_of(item)
        fault = Fault(field, code, message)
        found.setdefault((field, message), absent.get(field, fault) if code == "extra_forbidden" else fault)
    return list(found.values())


def words_of(item: ErrorDetails) -> str:
    """One of pydantic's findings, for people."""
    if item["type"] == "string_pattern_mismatch" and (form := _FORMS.get(item.get("ctx", {}).get("pattern", ""))):
        return form
    message = str(item["msg"]).removeprefix("Value error, ").replace(" after validation", "")
    return _WORDS.get(item["type"], message[:1].lower() + message[1:])


def in_words(error: ValueError) -> str:
    """What a text is not, where Python's own words would speak of Python, or quote what cannot be shown."""
    if isinstance(error, UnicodeDecodeError):
        return "it is no text in UTF-8"
    if isinstance(error, UnicodeError):
        return "it has a lone surrogate"
    if "integer string conversion" in str(error):
        return "it has a number of thousands of digits"
    return str(error).partition(";")[0]


def quotable(error: ValidationError) -> ValidationError:
    """The same findings, each of whose inputs JSON can carry: NaN or a lone surrogate becomes a text that shows it.

    FastAPI quotes inputs in its answer 422, and would break on these.
    """
    items = error.errors(include_url=False)
    if all(_carried([item["input"], item.get("ctx"), item["msg"]]) for item in items):
        return error
    return ValidationError.from_exception_data(error.title, [_quoted(item) for item in items])


def _quoted(item: Any) -> InitErrorDetails:
    context = {name: _text(value) for name, value in item.get("ctx", {}).items()}
    kind = PydanticCustomError(item["type"], _shown(item["msg"]), context or None)
    return InitErrorDetails(type=kind, loc=item["loc"], input=_text(item["input"]))


def _carried(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False, default=str).encode()
    except (ValueError, TypeError, RecursionError):  # TypeError: a key that is no text
        return False
    return True


def _text(value: object) -> object:
    if _carried(value):
        return value
    try:
        return reprlib.repr(value)
    except ValueError:  # a number of more digits than Python writes
        return type(value).__name__


def _shown(text: str) -> str:
    """A text, of somebody's own making as it may be, as it can be printed."""
    return text.encode("utf-8", "backslashreplace").decode()
