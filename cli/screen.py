"""What a command says: its result on standard output, everything else on standard error; JSON where that was asked for.

With `--json` standard output holds JSON alone: one document, one line each from commands that stream, and an error as
`{"error": {...}}`.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from darkroom.cli.errors import Report
from darkroom.cli.fields import FieldOption, field_options
from darkroom.cli.names import FLAGS, PARTS
from darkroom.tasks import Fault

UNLIMITED = 10_000  # columns, where nobody looks: a pipe must not get cut tables
READABLE, NARROW = 28, 10  # letters a line that a text needs to be read with ease, and at the least
NAMED = 5  # ids in a sentence at most

#: Options whose name is not the field's.
_OPTIONS = {
    "prompt": "PROMPT",
    "request": "the request",
    **{name: flags[0] for name, flags in FLAGS.items()},
}


class Screen:
    """Both streams of one command."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.out = _console(sys.stdout)
        self.err = _console(sys.stderr)

    def result(self, data: Mapping[str, Any], shown: RenderableType | None = None) -> None:
        """The one result: as a JSON document, or as `shown`."""
        if self.as_json:
            self.line(data)
        elif shown is not None:
            self.out.print(shown)

    def line(self, data: Mapping[str, Any]) -> None:
        """One line of JSON, at once."""
        sys.stdout.write(json.dumps(data, ensure_ascii=False, default=str) + "\n")
        sys.stdout.flush()

    def say(self, text: str, style: str = "") -> None:
        """A line for people on standard output; with JSON, on standard error."""
        (self.err if self.as_json else self.out).print(printable(text), style=style or None, soft_wrap=True)

    def note(self, text: str) -> None:
        """A line for people that is not the result."""
        self.err.print(printable(text), style="dim", soft_wrap=True)

    def error(self, report: Report) -> None:
        """What went wrong, and what to do."""
        if self.as_json:
            self.line({"error": report.as_dict()})
            return
        if report.faults:
            self.err.print(
                f"error: {_count(len(report.faults), 'fault')} in the request", style="bold red", soft_wrap=True
            )
            for fault in report.faults:
                self.err.print(f"  {described(fault)}", style="red", soft_wrap=True)
        else:
            self.err.print(f"error: {printable(report.message)}", style="bold red", soft_wrap=True)
        if report.hint:
            self.err.print(f"  {printable(report.hint)}", soft_wrap=True)


def described(fault: Fault) -> str:
    """A fault by the option that caused it, in the words of a terminal."""
    field, dot, part = fault.field.partition(".")
    option = next((option for option in field_options() if option.name == field), None)
    name = _OPTIONS.get(field) or f"--{field.replace('_', '-')}"
    return printable(f"{name}{dot and ': '}{part}: {_words(fault, option)}")


def _words(fault: Fault, option: FieldOption | None) -> str:
    """The message; what only the command takes, and what a field of several values is made of."""
    parts = f"; there are: {', '.join(option.parts)}" if option and option.parts else ""
    match fault.code:
        case "invalid_time":
            return f"{fault.message}, or +SECONDS from now"
        case "model_type":
            return f"give NAME=VALUE,..., each once, or JSON{parts}"
        case "too_short" | "too_long" if option and option.is_pair and fault.field == option.name:
            return "give two numbers, such as 1024x768 or 0,64"
        case "extra_forbidden" | "literal_error" if hint := PARTS.get(fault.field):
            return f"{fault.message}; {hint}"
        case "extra_forbidden":
            return f"{fault.message}{parts}"
    return fault.message


def printable(text: str) -> str:
    """Text without control characters: what others wrote must not steer this terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


class _Trimmed:
    """Without the spaces by which rich fills up lines: they are in the way of whoever copies or compares them."""

    def __init__(self, shown: Table) -> None:
        self._shown = shown

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in console.render_lines(self._shown, options, pad=False):
            while line and not line[-1].text.strip():
                line.pop()
            if line:
                yield from line[:-1]
                yield Segment(line[-1].text.rstrip(), line[-1].style)
            yield Segment.line()


class _Fitting:
    """A table that leaves out columns which may be spared, one after the other, until the others have room."""

    def __init__(self, columns: Sequence[str], rows: Sequence[Sequence[str | Text]], spare: Sequence[str]) -> None:
        self._columns, self._rows, self._spare = columns, rows, spare

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown = list(range(len(self._columns)))
        for name in self._spare:
            if self._width(shown, READABLE) > options.max_width:
                shown.remove(self._columns.index(name))
        yield _Trimmed(self._made(shown, whole=self._width(shown, NARROW) <= options.max_width))

    def _width(self, shown: Sequence[int], least: int) -> int:
        """Of these columns, where the last one may go on in further lines of so many letters."""
        *others, last = (max(cell_len(str(row[n])) for row in (self._columns, *self._rows)) for n in shown)
        return sum(others) + min(last, least) + 2 * len(others)

    def _made(self, shown: Sequence[int], *, whole: bool) -> Table:
        """Where even these have no room, all of them have lines, so that nothing is lost."""
        made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
        for n in shown:
            made.add_column(self._columns[n], no_wrap=whole and n != shown[-1], overflow="fold")
        for row in self._rows:
            made.add_row(*(row[n] for n in shown))
        return made


def table(*columns: str, rows: Iterable[Sequence[object]], spare: Sequence[str] = ()) -> RenderableType:
    """A plain table; the last column takes the room that is left. `spare`: what a narrow terminal can do without."""
    cells = [[cell if isinstance(cell, Text) else printable(str(cell)) for cell in row] for row in rows]
    return _Fitting(columns, cells, spare)


def pairs(rows: Iterable[tuple[str, object]]) -> RenderableType:
    """Names and values, one pair a line."""
    made = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row(name, value if isinstance(value, Text) else printable(str(value)))
    return _Trimmed(made)


def some(ids: Sequence[str], count: int | None = None) -> str:
    """The first ids, and how many more there are; `count`: of all, where these are not all."""
    more = (len(ids) if count is None else count) - len(ids[:NAMED])
    return ", ".join(map(printable, ids[:NAMED])) + (f" and {more} more" if more > 0 else "")


def in_words(value: object) -> str:
    """A value of a document, for people: mappings and lists with commas between, a dash for what is empty."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {one}" for key, one in value.items()) or "-"
    return (", ".join(map(str, value)) or "-") if isinstance(value, list) else str(value)


def size(count: int) -> str:
    """Bytes for people."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"


def duration(seconds: float) -> str:
    """A length of time for people, in the two units that matter."""
    left, parts = max(0, round(seconds)), list[str]()
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
        elif parts:
            break
    return " ".join(parts[:2])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _console(stream: TextIO) -> Console:
    width = None if stream.isatty() else UNLIMITED
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False, soft_wrap=False)
