"""CSV: a header with the names of fields, then a request a row. Cells may have several lines, within quotes."""

import csv
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from darkroom.cli.batch.columns import Column, columns
from darkroom.cli.batch.lines import FileRefused, Line, line, raw_lines, refused
from darkroom.cli.requests import MAX_LINE
from darkroom.tasks import InvalidRequest


def read_table(file: BinaryIO, defaults: Mapping[str, Any]) -> Iterator[Line]:
    """The rows of a file over `defaults`; empty ones are passed over. Raises FileRefused."""
    named: list[Column] | None = None
    for row in _rows(file):
        if isinstance(row.cells, list) and not any(cell.strip() for cell in row.cells):
            continue
        if named is None:
            named = _header(row)
        else:
            yield line(row.number, row.digest, _fields(row, named), defaults)
    if named is None:
        raise FileRefused("the file is empty", hint="the first line of a CSV names the columns")


def _header(row: "_Row") -> list[Column]:
    if isinstance(row.cells, InvalidRequest):
        raise FileRefused(f"line {row.number}, which is to be the header: {row.cells.faults[0].message}")
    return columns(row.cells, row.number)


def _fields(row: "_Row", named: list[Column]) -> dict[str, Any] | InvalidRequest:
    if isinstance(row.cells, InvalidRequest):
        return row.cells
    if len(row.cells) != len(named):
        words = f"has {len(row.cells)} cells, and the header {len(named)}: quote a cell that holds a comma"
        return refused("request", "not_csv", words)
    fields: dict[str, Any] = {}
    for column, cell in zip(named, row.cells, strict=True):
        if cell.strip():
            column.put(fields, cell)
    return fields


class _Row:
    """A record: where it begins, its digest, and its cells or what is wrong with it."""

    def __init__(self, number: int, digest: str, cells: list[str] | InvalidRequest) -> None:
        self.number, self.digest, self.cells = number, digest, cells


class _TooLong(Exception):
    """A record, or a line of it, has no end in sight."""


class _Feed:
    """Lines for the csv module, and what of them the record in hand took."""

    def __init__(self, file: BinaryIO) -> None:
        self._lines = raw_lines(file)
        self.begin()

    def begin(self) -> None:
        """What comes now is another record's."""
        self.first, self.size, self.quotes = 0, 0, 0
        self.digest = hashlib.sha256()

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        raw = next(self._lines)
        self.first = self.first or raw.number
        self.size += len(raw.text)
        self.quotes += raw.quotes
        self.digest.update(raw.digest.encode())
        if self.size > MAX_LINE or not raw.whole:
            raise _TooLong
        return raw.text.decode(errors="surrogateescape")


def _rows(file: BinaryIO) -> Iterator[_Row]:
    """The records of a file. Raises FileRefused for quotes that do not match: nobody knows which lines are in them."""
    csv.field_size_limit(MAX_LINE)  # the process's; what is longer ends in the feed
    feed = _Feed(file)
    reader = csv.reader(feed, strict=True)
    while True:
        feed.begin()
        cells: list[str] | InvalidRequest
        try:
            cells = next(reader)
        except StopIteration:
            return
        except _TooLong:
            cells = refused("request", "too_long", f"the row has more than {MAX_LINE} bytes")
        except csv.Error as error:
            cells = refused("request", "not_csv", f"is no row of a CSV: {error}")
        if isinstance(cells, InvalidRequest) and feed.quotes % 2:
            raise FileRefused(
                f"line {feed.first}: a quote that opens there, or soon after, does not close",
                hint='close it; a quote within a quoted cell is written twice: "a 5"" disk"',
            )
        if isinstance(cells, list) and any(cell != cell.encode(errors="replace").decode() for cell in cells):
            cells = refused("request", "not_utf8", "is no text in UTF-8; save the file as UTF-8")
        yield _Row(feed.first, feed.digest.hexdigest(), cells)
