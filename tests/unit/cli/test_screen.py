"""What people and programs read."""

import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console, Group, RenderableType

from darkroom.cli.errors import Report
from darkroom.cli.jobs import jobs_table
from darkroom.cli.models import models_table
from darkroom.cli.screen import UNLIMITED, Screen, described, duration, pairs, printable, size, table
from darkroom.tasks import Fault, Job, State, Txt2Img

FAULTS = (Fault("num_inference_steps", "too_large", "at most 200"), Fault("image", "missing", "field required"))


def test_errors_for_people_name_options(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().error(Report("invalid_request", "ignored", "look there", FAULTS, 2))
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == [
        "error: 2 faults in the request",
        "  --steps: at most 200",
        "  --image: field required",
        "  look there",
    ]


def test_errors_for_programs_are_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(as_json=True).error(Report("job_not_found", "no job x", "", (), 7))
    told = capsys.readouterr()
    assert told.err == ""
    assert json.loads(told.out) == {"error": {"code": "job_not_found", "message": "no job x", "hint": "", "faults": []}}


@pytest.mark.parametrize("field", ["idempotency_key", "seeds", "negative_prompt", "prompt"])
def test_every_field_has_a_name_for_people(field: str) -> None:
    names = {"idempotency_key": "--idempotency-key", "seeds": "--seed", "negative_prompt": "--negative"}
    assert described(Fault(field, "c", "m")) == f"{names.get(field, 'PROMPT')}: m"


def test_what_others_wrote_does_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert printable("a\x1b[31mb\x07c\nd") == "a\ufffd[31mb\ufffdc\nd"
    screen = Screen()
    screen.result({}, table("A", "B", rows=[("[red]x", "\x1b]0;title\x07")]))
    screen.result({}, pairs([("name", "[/bold] :smile:")]))
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert "[red]x" in told
    assert "[/bold] :smile:" in told


def test_tables_are_not_cut_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().result({}, table("A", "B", rows=[("a" * 300, "b" * 300)]))
    assert "a" * 300 + "  " + "b" * 300 in capsys.readouterr().out


def test_one_document_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(as_json=True)
    screen.result({"prompt": "naïve\nline"}, "never shown")
    screen.say("for people")
    told = capsys.readouterr()
    assert told.out == '{"prompt": "naïve\\nline"}\n'
    assert told.err == "for people\n"


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 B"), (999, "999 B"), (2_270_000, "2.27 MB"), (6.94e9, "6.94 GB"), (3e13, "30 TB")]
)
def test_sizes(count: float, words: str) -> None:
    assert size(int(count)) == words


@pytest.mark.parametrize("width", [60, 80, 200, 10_000])
def test_no_line_of_a_table_ends_with_spaces(width: int) -> None:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    rows = [("a", "short", "one"), ("bbbb", "longer than that " * 3, "two words " * 9)]
    console.print(
        Group(table("A", "B", "C", rows=rows), "", table("A", "B", rows=[]), pairs([("n", "v"), ("name", "")]))
    )
    lines = out.getvalue().splitlines()
    assert [line for line in lines if line != line.rstrip()] == []
    assert max(map(len, lines)) <= width
    assert "A" in lines[0]


@pytest.mark.parametrize(("width", "shown"), [(60, 3), (80, 5), (119, 5), (120, 7), (10_000, 7)])
def test_a_list_has_room_for_prompts(width: int, shown: int) -> None:
    request = Txt2Img(prompt="a large red star on a blue background", seeds=[1])
    job = Job(
        id="0198c5c0-7b1f-7d6e-8a45-2f4d3c6b7a89", tenant="default", state=State.SUCCEEDED, model="playground-v2.5",
        lane="interactive", kind="txt2img", request=request, created_at=datetime.now(UTC),
    )  # fmt: skip
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(jobs_table([job], width))
    assert len(out.getvalue().splitlines()[0].split()) == shown
    told = " ".join(out.getvalue().split())
    assert job.id in told
    assert all(word in told for word in request.prompt.split())


OFFER: dict[str, Any] = {
    "name": "playground-v2.5",
    "family": "playground",
    "state": "not pulled",
    "workers": 2,
    "has": ["kind:inpaint"] * 30,
    "loras": [{"name": "pen"}] * 3,
    "base": None,
    "defaults": {"width": 1024, "height": 1024, "num_inference_steps": 50, "guidance_scale": 3.0, "scheduler": "ddim"},
    "license": "https://example.org/a/long/way/to/the/licence/of/this/model",
}
HEADS = ["NAME", "FAMILY", "WEIGHTS", "WORKERS", "LORAS", "BASE", "DEFAULTS", "LICENCE"]


def lines_at(width: int, shown: RenderableType) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as captured:
        console.print(shown)
    return captured.get().splitlines()


@pytest.mark.parametrize(("width", "columns"), [(50, 4), (60, 5), (80, 6), (100, 7), (200, 8), (UNLIMITED, 8)])
def test_a_narrow_terminal_lists_fewer_things_of_models_and_cuts_none(width: int, columns: int) -> None:
    """What workers have is long, and said elsewhere."""
    head, line, *_ = lines_at(width, models_table([OFFER]))
    assert head.split() == HEADS[:columns]
    assert line.split()[:5] == ["playground-v2.5", "playground", "not", "pulled", "2"]
    assert columns < 5 or line.split()[5] == "3"
    assert len(line) <= width


@pytest.mark.parametrize("width", [20, 40, 60])
def test_where_nothing_can_be_spared_lines_are_broken_and_whole(width: int) -> None:
    cells = ("0198c5c0-7b1f-7d6e-8a45-2f4d3c6b7a89", "float16", "1280x1280x3x3")
    _, *lines = lines_at(width, table("NAME", "DTYPE", "SHAPE", rows=[cells]))
    assert all(len(line) <= width for line in lines)
    assert sorted("".join("".join(lines).split())) == sorted("".join(cells))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s"),
        (59.7, "1 min"),
        (200, "3 min 20 s"),
        (3601, "1 h"),
        (6600.4, "1 h 50 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_lengths_of_time(seconds: float, words: str) -> None:
    assert duration(seconds) == words
