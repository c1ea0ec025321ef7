"""The lines of a batch's file in flat memory, whatever their form: each a request under its id, or a fault."""

import codecs
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from darkroom.cli.errors import CliError
from darkroom.cli.requests import MAX_LINE, with_kind
from darkroom.tasks import Fault, InvalidRequest

ID_FIELD = "custom_id"
MOST_ID = 128  # characters
_SHOWN = 40  # characters of what a file holds, in a message
_DIGEST = 16  # hexadecimal digits of a line's digest in an id
_OTHERS = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}


class FileRefused(CliError):
    """A file whose lines cannot be told apart, or that is not the one that it was."""

    code = "batch_file_invalid"
    exit_code = 2


@dataclass(frozen=True, slots=True)
class Line:
    """One request of a file. `number` is where it begins, `custom_id` its own or made of number and digest."""

    number: int
    custom_id: str
    found: dict[str, Any] | InvalidRequest
    named: bool = False


@dataclass(frozen=True, slots=True)
class Raw:
    """A line of the file with its end. Of one that is not `whole` `text` is the beginning; the others are of all."""

    number: int
    text: bytes
    digest: str
    quotes: int
    whole: bool = True


def raw_lines(file: BinaryIO) -> Iterator[Raw]:
    """Every line, MAX_LINE bytes of each at most. Raises FileRefused for what is UTF-16."""
    number = 0
    while text := file.readline(MAX_LINE):
        number += 1
        digest, quotes, whole, end = hashlib.sha256(text), text.count(b'"'), True, text
        if number == 1:
            text = _without_mark(text)
        while len(end) == MAX_LINE and not end.endswith(b"\n"):
            end, whole = file.readline(MAX_LINE), False
            digest.update(end)
            quotes += end.count(b'"')
        yield Raw(number, text, digest.hexdigest(), quotes, whole)


def _without_mark(text: bytes) -> bytes:
    """The first line without a byte order mark."""
    for mark, name in _OTHERS.items():
        if text.startswith(mark):
            raise FileRefused(f"line 1: the file is {name}, not UTF-8", hint="save it as UTF-8")
    return text.removeprefix(codecs.BOM_UTF8)


def line(number: int, digest: str, found: dict[str, Any] | InvalidRequest, defaults: Mapping[str, Any]) -> Line:
    """The line under its id, its fields over `defaults`; an id that is none is a fault of the line."""
    own = None
    if isinstance(found, dict):
        own = found.pop(ID_FIELD, None)
        found = with_kind({**defaults, **found})
    if own is None:
        return Line(number, f"{number}-{digest[:_DIGEST]}", found)
    if not isinstance(own, str) or not 0 < len(own) <= MOST_ID or not own.isprintable() or own != own.strip():
        words = f"is no text of 1 to {MOST_ID} characters, all printable and no space at its ends: {shown(str(own))}"
        return Line(number, f"{number}-{digest[:_DIGEST]}", refused(ID_FIELD, "invalid_id", words))
    return Line(number, own, found, named=True)


def refused(field: str, code: str, message: str) -> InvalidRequest:
    """One fault of one line."""
    return InvalidRequest([Fault(field, code, message)])


def shown(text: str) -> str:
    """What a file holds, short and without what steers a terminal."""
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
