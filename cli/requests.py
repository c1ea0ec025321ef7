"""Lines of a file as requests: plain mappings, which the task API checks as a whole."""

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from darkroom.cli.fields import kind_of
from darkroom.cli.reading import read_json
from darkroom.tasks import DarkroomError, Fault, InvalidRequest
from darkroom.tasks.findings import in_words

#: A request is at most 320 kB of JSON; a longer line is refused before it is parsed.
MAX_LINE = 512 * 1024


def with_kind(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with their kind, which follows from what only some kinds have."""
    return {"kind": kind_of(fields), **fields}


def read_lines(file: BinaryIO, defaults: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, Any] | DarkroomError]]:
    """The requests of a JSON-lines file with their line's number, each over `defaults`; empty lines are passed over."""
    for number, line in enumerate(_lines(file), 1):
        if line.strip():
            yield number, _request(line, defaults)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines in flat memory: of one that is too long only the beginning."""
    while line := file.readline(MAX_LINE):
        end = line
        while len(end) == MAX_LINE and not end.endswith(b"\n"):
            end = file.readline(MAX_LINE)
        yield line


def _request(line: bytes, defaults: Mapping[str, Any]) -> dict[str, Any] | DarkroomError:
    try:
        if len(line) == MAX_LINE:
            raise ValueError(f"{MAX_LINE} bytes or more")
        fields = read_json(line)
        if not isinstance(fields, dict):
            raise ValueError(f"a {type(fields).__name__}")
    except ValueError as error:
        return InvalidRequest([Fault("request", "not_json", f"is no JSON object: {in_words(error)}")])
    return with_kind({**defaults, **fields})
