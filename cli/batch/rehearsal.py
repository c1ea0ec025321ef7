"""`darkroom batch check`: a file before it is sent; which lines are bad, and about what the others take."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from darkroom.cli.batch.checks import Estimate, checked, paces
from darkroom.cli.batch.lines import Line
from darkroom.cli.batch.survey import Survey, survey
from darkroom.cli.errors import EXIT_USAGE, report
from darkroom.cli.fields import given_fields, takes_fields
from darkroom.cli.options import AsJson
from darkroom.cli.reading import local_path
from darkroom.cli.screen import Screen, duration, printable
from darkroom.tasks import Darkroom, DarkroomError, TaskSettings
from darkroom.tasks.redis_io import BlockingIO

EXAMPLES = """Examples:

darkroom batch check requests.csv

darkroom batch check requests.jsonl --model sdxl --steps 30 --json
"""
MOST_TOLD = 1000  # bad lines that people are told of one by one

File = Annotated[str, typer.Argument(metavar="FILE", help="JSON lines, or a CSV with a header (by its ending).")]


@takes_fields
def check(file: File, *, as_json: AsJson = False, **fields: Any) -> int:
    """Name every bad line of a file of requests, and estimate what the others cost. Nothing is sent.

    Options of requests are defaults for the lines. Exits 2 if a line is bad.
    """
    defaults, path = given_fields(fields), local_path(file, "FILE")
    return rehearse(path, defaults, survey(path, defaults), Screen(as_json=as_json))


def rehearse(path: Path, defaults: Mapping[str, Any], found: Survey, screen: Screen) -> int:
    """Names every bad line, and estimates what the others take. Returns the exit code."""
    estimate, bad, settings = Estimate(), 0, TaskSettings()
    io = BlockingIO(settings)
    try:
        with Darkroom() as client:
            market = client.models()
        for line, error in checked(path, defaults, market, io, settings, estimate):
            bad += 1
            if screen.as_json or bad <= MOST_TOLD:
                _tell(line, error, screen)
        seconds = estimate.seconds(io.run(paces(estimate.cost)), market.workers)
    finally:
        io.close()
    if bad > MOST_TOLD and not screen.as_json:
        screen.note(f"and {bad - MOST_TOLD} more bad lines")
    cost = {model: round(value, 3) for model, value in estimate.cost.items()}
    document = {"lines": found.lines, "refused": bad, "requests": estimate.requests, "pieces": estimate.pieces,
                "cost": cost, "seconds": seconds, "sha256": found.sha256}  # fmt: skip
    screen.result(document, "\n".join(_estimated(found, bad, estimate, seconds)))
    return EXIT_USAGE if bad else 0


def say(line: Line, words: str, screen: Screen) -> None:
    """What is wrong with a line, for people."""
    screen.err.print(printable(f"line {line.number}: {words}"), style="red", soft_wrap=True)


def _tell(line: Line, error: DarkroomError, screen: Screen) -> None:
    if screen.as_json:
        found = report(error)
        screen.line({"line": line.number, "custom_id": line.custom_id, "error": found.as_dict() if found else None})
    else:
        say(line, error.message, screen)


def _estimated(found: Survey, bad: int, estimate: Estimate, seconds: float | None) -> list[str]:
    refused = f", {bad} would be refused" if bad else ""
    words = [f"{found.lines} lines{refused}; {estimate.pieces} pictures"]
    words += [f"{model}: {cost:.4g} denoiser calls of a megapixel" for model, cost in estimate.cost.items()]
    words += [f"about {duration(seconds)}, if workers did nothing else"] if seconds else []
    words += ["how long that takes is not known: no job of the model has ended lately"] if seconds is None else []
    return words
