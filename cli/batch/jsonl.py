"""JSON lines: an object each, with the fields of a request and perhaps a `custom_id`."""

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from darkroom.cli.batch.lines import Line, Raw, line, raw_lines, refused
from darkroom.cli.reading import read_json
from darkroom.cli.requests import MAX_LINE
from darkroom.tasks import InvalidRequest
from darkroom.tasks.findings import in_words


def read_jsonl(file: BinaryIO, defaults: Mapping[str, Any]) -> Iterator[Line]:
    """The lines of a file over `defaults`; empty ones are passed over. Raises FileRefused."""
    for raw in raw_lines(file):
        if raw.text.strip():
            yield line(raw.number, raw.digest, _fields(raw), defaults)


def _fields(raw: Raw) -> dict[str, Any] | InvalidRequest:
    if not raw.whole:
        return refused("request", "too_long", f"the line has more than {MAX_LINE} bytes")
    try:
        fields = read_json(raw.text.decode())
        if not isinstance(fields, dict):
            raise ValueError(f"a {type(fields).__name__}")
    except UnicodeDecodeError as error:
        words = f"byte {error.start + 1} of the line is no text in UTF-8; save the file as UTF-8"
        return refused("request", "not_utf8", words)
    except ValueError as error:
        return refused("request", "not_json", f"is no JSON object: {in_words(error)}")
    return fields
