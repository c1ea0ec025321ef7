"""Paths, numbers and JSON as users write them."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from darkroom.cli.app import run
from darkroom.cli.bulk import submit_file
from darkroom.cli.fields import given_fields, moment
from darkroom.cli.reading import local_path, number, read_json
from darkroom.cli.requests import with_kind
from darkroom.cli.screen import Screen
from darkroom.tasks import InvalidRequest, parse_request

NOBODY = "~nobody-of-this-name"


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["submit", "x", "--image", f"{NOBODY}/x.png"], "image"),
        (["submit", "x", "--save", f"{NOBODY}/x.png"], "--save"),
        (["submit", "--from-file", f"{NOBODY}/x"], "--from-file"),
        (["replay", f"{NOBODY}/x"], "MANIFEST"),
        (["replay", __file__, "--save", f"{NOBODY}/x"], "--save"),
        (["models", "inspect", f"{NOBODY}/x"], "PATH"),
        (["demo", "--output", f"{NOBODY}/x"], "--output"),
        (["submit", "x", "--image", "x" * 300 + ".png"], "image"),
    ],
)
def test_a_path_that_cannot_be_is_a_fault_of_its_option(
    arguments: list[str], option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*arguments, "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert option in {error["message"].split()[0], *(fault["field"] for fault in error["faults"])}


def test_home_folders_are_looked_for_in_one_place() -> None:
    """Elsewhere one that nobody has would be a traceback."""
    cli = Path(sys.modules["darkroom.cli"].__path__[0])
    users = [path.name for path in cli.rglob("*.py") if "expanduser" in path.read_text()]
    assert users == ["reading.py"]
    assert local_path("~/x", "--save") == Path.home() / "x"


def test_a_line_with_such_a_path_stops_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [{"prompt": "a", "image": path} for path in (f"{NOBODY}/x.png", "x" * 300 + ".png", f"{tmp_path}/x.png")]
    (tmp_path / "jobs").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert submit_file(str(tmp_path / "jobs"), {}, Screen(as_json=True)) == 2
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["line"], one["error"]["faults"][0]["code"]) for one in told] == [
        (1, "input_missing"),
        (2, "input_missing"),
        (3, "input_missing"),
    ]


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 20_000, '{"a": 1, "a": 2}', '{"a": {"b": 1, "b": 2}}', "{"])
def test_json_that_is_none_or_says_two_things_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"nested|is there twice|Expecting"):
        read_json(text)
    for option in ("metadata", "hires"):
        with pytest.raises(InvalidRequest) as caught:
            parse_request(with_kind(given_fields({"prompt": "a", option: text})))
        assert {fault.field for fault in caught.value.faults} == {option}


def test_a_field_twice_is_named() -> None:
    with pytest.raises(ValueError, match="'num_inference_steps' is there twice"):
        read_json(b'{"num_inference_steps": 1, "num_inference_steps": 3}')


@pytest.mark.parametrize("text", ["1_28", "1_2.5", "١٢٨", "nan", "inf", "0x10", "1.2.3", "", "."])
def test_what_is_no_number_for_people_is_passed_on(text: str) -> None:
    assert number(text, int) == number(text, float) == text
    assert moment(f"+{text}") == f"+{text}"


@pytest.mark.parametrize(
    ("text", "value"), [("128", 128), (" -1", -1), ("+2", 2), ("1.5", 1.5), (".5", 0.5), ("1e3", 1000.0)]
)
def test_what_is_a_number(text: str, value: Any) -> None:
    assert number(text, int) == value
