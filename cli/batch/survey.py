"""A look at a whole file before anything of it is sent: what it is, and whether its lines can be told apart."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from darkroom.cli.batch.jsonl import read_jsonl
from darkroom.cli.batch.lines import FileRefused, Line, shown
from darkroom.cli.batch.table import read_table

MOST_TOLD = 20  # ids that are there twice
_KEY = 16  # bytes of an id's digest that are held of each: 100,000 ids take about 10 MB


@dataclass(frozen=True, slots=True)
class Survey:
    """What a file holds: its digest, and how many requests, faults included."""

    sha256: str
    lines: int


def read(file: BinaryIO, path: Path, defaults: Mapping[str, Any]) -> Iterator[Line]:
    """The lines of a file, a CSV by its ending, else JSON. Raises FileRefused."""
    reader = read_table if path.suffix.lower() == ".csv" else read_jsonl
    return reader(file, defaults)


def survey(path: Path, defaults: Mapping[str, Any]) -> Survey:
    """Reads all of the file once. Raises FileRefused, also for ids that are there twice, with both lines; OSError."""
    count, seen = 0, set[int]()
    twice = dict[int, list[int]]()
    with path.open("rb") as file:
        for one in read(file, path, defaults):
            count += 1
            if not one.named:
                continue
            key = key_of(one.custom_id)
            if key in seen and (key in twice or len(twice) < MOST_TOLD):
                twice.setdefault(key, []).append(one.number)
            seen.add(key)
    if twice:
        _refuse(path, defaults, twice)
    return Survey(digest_of(path), count)


def digest_of(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def key_of(custom_id: str) -> int:
    """What is held of an id, where as many may come as there are lines."""
    return int.from_bytes(hashlib.blake2b(custom_id.encode(), digest_size=_KEY).digest())


def _refuse(path: Path, defaults: Mapping[str, Any], twice: Mapping[int, list[int]]) -> None:
    """Raises FileRefused with the lines of each; the first one of each is looked for now, since it was not held."""
    lines = dict[str, list[int]]()
    with path.open("rb") as file:
        for one in read(file, path, defaults):
            if one.named and key_of(one.custom_id) in twice:
                lines.setdefault(one.custom_id, []).append(one.number)
    told = [f"{shown(name)} in lines {_all(at)}" for name, at in lines.items() if len(at) > 1]
    if told:
        hint = "each line needs an id of its own, or none"
        raise FileRefused(f"the same custom_id twice: {'; '.join(told)}", hint=hint)


def _all(numbers: list[int]) -> str:
    more = f" and {len(numbers) - MOST_TOLD} more" if len(numbers) > MOST_TOLD else ""
    return ", ".join(map(str, numbers[:MOST_TOLD])) + more
