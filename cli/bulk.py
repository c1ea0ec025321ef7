"""A file of requests, one JSON object a line, streamed into Redis in flat memory."""

import sys
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, BinaryIO

from rich.progress import Progress, TextColumn, TimeElapsedColumn

from darkroom.cli.errors import report
from darkroom.cli.pictures import with_upload
from darkroom.cli.reading import local_path
from darkroom.cli.requests import read_lines
from darkroom.cli.screen import Screen, printable
from darkroom.tasks import Darkroom, DarkroomError, InvalidRequest, Submitted


def submit_file(source: str, defaults: Mapping[str, Any], screen: Screen) -> int:
    """Submits every line of a file (`-`: standard input) over `defaults`; returns the exit code.

    Ids go to standard output in the order of the lines, refusals beside it; with JSON both are lines on standard
    output. Raises QueueError where Redis fails: what was written until then is known by then.
    """
    with ExitStack() as stack:
        file = sys.stdin.buffer if source == "-" else stack.enter_context(local_path(source, "--from-file").open("rb"))
        client = stack.enter_context(Darkroom())
        tally = stack.enter_context(_Tally(screen))
        reader = _Reader(file, defaults, client, tally)
        for outcome in client.submit_many(reader):
            tally.count(reader.lines.popleft(), outcome.job or outcome.error)
    return tally.exit_code


class _Reader:
    """The requests that can be submitted; the others are told of at once. `lines`: the numbers of those under way."""

    def __init__(self, file: BinaryIO, defaults: Mapping[str, Any], client: Darkroom, tally: "_Tally") -> None:
        self._file, self._defaults, self._client, self._tally = file, defaults, client, tally
        self.lines: deque[int] = deque()

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        for number, found in read_lines(self._file, self._defaults):
            ready = found if isinstance(found, DarkroomError) else self._ready(found)
            if isinstance(ready, DarkroomError):
                self._tally.count(number, ready)
            else:
                self.lines.append(number)
                yield ready

    def _ready(self, fields: dict[str, Any]) -> Mapping[str, Any] | DarkroomError:
        try:
            return with_upload(fields, self._client)
        except InvalidRequest as error:
            return error


class _Tally:
    """Counts and tells what became of the lines."""

    def __init__(self, screen: Screen) -> None:
        self._screen, self._taken, self._refused = screen, 0, 0
        self._progress = Progress(
            TextColumn("{task.fields[words]}", markup=False),
            TimeElapsedColumn(),
            console=screen.err,
            disable=screen.out.is_terminal or not screen.err.is_terminal,  # on one terminal the ids show it
            transient=True,
            redirect_stdout=False,  # rich would send the ids to standard error
            redirect_stderr=False,
        )
        self._task = self._progress.add_task("", total=None, words="")
        self.exit_code = 0

    def count(self, line: int, found: Submitted | DarkroomError | None) -> None:
        if isinstance(found, Submitted):
            self._taken += 1
            self._show_taken(line, found)
        elif found is not None:
            self._refused += 1
            self.exit_code = self.exit_code or found.exit_code
            self._show_refused(line, found)
        self._progress.update(self._task, words=self._words())

    def _show_taken(self, line: int, job: Submitted) -> None:
        if self._screen.as_json:
            self._screen.line({"line": line, **job.as_dict()})
        else:
            print(job.id, flush=True)

    def _show_refused(self, line: int, error: DarkroomError) -> None:
        told = report(error)
        if self._screen.as_json:
            unsent = {"id": job_id} if (job_id := getattr(error, "job_id", None)) else {}
            self._screen.line({"line": line, **unsent, "error": told.as_dict() if told else {}})
        else:
            self._screen.err.print(printable(f"line {line}: {error.message}"), style="red")

    def _words(self) -> str:
        refused = f", {self._refused} refused" if self._refused else ""
        return f"{self._taken} submitted{refused}"

    def __enter__(self) -> "_Tally":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        self._screen.note(self._words())
