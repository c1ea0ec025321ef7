"""From options and lines of a file to requests: plain mappings, which the task API checks as a whole.

Numbers that are none are passed on as they came, so that they are named together with every other fault.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO

from darkroom.tasks import DarkroomError, Fault, InvalidRequest

INTEGERS = ("width", "height", "num_inference_steps", "num_images")
FLOATS = ("guidance_scale", "strength")
MOMENTS = ("start_by", "finish_by")
TEXTS = (
    "model", "negative_prompt", "scheduler", "image", "output_format", "batching", "lane", "tenant", "idempotency_key",
)  # fmt: skip

#: A request is at most 320 kB of JSON; a longer line is refused before it is parsed.
MAX_LINE = 512 * 1024


def request_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request that the options name, by the request's own names."""
    given = {name: value for name, value in options.items() if value is not None}
    fields: dict[str, Any] = {name: given[name] for name in ("prompt", *TEXTS) if name in given}
    fields |= {name: _number(given[name], int) for name in INTEGERS if name in given}
    fields |= {name: _number(given[name], float) for name in FLOATS if name in given}
    seeds = [_number(seed, int) for seed in given.get("seed") or []]
    if seeds:
        fields |= {"seed": seeds[0]} if len(seeds) == 1 else {"seeds": seeds}
    fields |= {name: _moment(given[name]) for name in MOMENTS if name in given}
    if "metadata" in given:
        fields["metadata"] = _json(given["metadata"])
    return fields


def with_kind(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with their kind: what only img2img has makes it one."""
    return {"kind": "img2img" if {"image", "strength"} & fields.keys() else "txt2img", **fields}


def _number(text: str, kind: type[int] | type[float]) -> int | float | str:
    for tried in (kind, float):
        try:
            return tried(text)
        except ValueError:
            continue
    return text


def _moment(text: str) -> str:
    """`+90` as the moment 90 seconds from now."""
    try:
        return (datetime.now(UTC) + timedelta(seconds=float(text))).isoformat() if text.startswith("+") else text
    except (ValueError, OverflowError):
        return text


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text  # the request wants a mapping, and says so


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
        fields = json.loads(line)
        if not isinstance(fields, dict):
            raise ValueError(f"a {type(fields).__name__}")
    except (ValueError, RecursionError) as error:
        return InvalidRequest([Fault("request", "not_json", f"is no JSON object: {error}")])
    return with_kind({**defaults, **fields})
