"""From exceptions to reports, and every exit code in the docs."""

import errno
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from darkroom.cli import errors
from darkroom.cli.app import app, run, wants_json
from darkroom.cli.errors import EXIT_INTERRUPTED, EXIT_STORAGE, ExtraMissing, Interrupted, WorkerFailed, report
from darkroom.storage.errors import BucketMissing
from darkroom.tasks import DarkroomError, Fault, InvalidRequest, JobNotFound
from darkroom.worker import errors as worker_errors
from darkroom.worker.__main__ import EXIT_TEMPORARY

PAGE = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()


@pytest.mark.parametrize("arguments", [[], ["dead"], ["models"], ["store"]])
def test_a_name_alone_shows_its_help_and_no_error(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    told = capfd.readouterr()
    assert (" ".join(["Usage: darkroom", *arguments]) in told.out, told.err) == (True, "")


def test_errors_of_the_trees_keep_what_they_say() -> None:
    found = report(JobNotFound("no job x"))
    assert found is not None
    assert (found.code, found.message, found.exit_code) == ("job_not_found", "no job x", 7)
    assert found.hint == JobNotFound.hint
    faulty = report(InvalidRequest([Fault("width", "off_grid", "no")]))
    assert faulty is not None
    assert faulty.as_dict()["faults"] == [{"field": "width", "code": "off_grid", "message": "no"}]


def test_errors_of_storage_have_their_exit_code() -> None:
    found = report(BucketMissing("no bucket"))
    assert found is not None
    assert (found.code, found.exit_code) == ("bucket_missing", EXIT_STORAGE)


def test_errors_of_the_system_name_the_file() -> None:
    found = report(FileNotFoundError(errno.ENOENT, "No such file or directory", "a.jsonl"))
    assert found is not None
    assert (found.code, found.message, found.exit_code) == ("file_error", "a.jsonl: No such file or directory", 1)


@pytest.mark.parametrize(("module", "extra"), [("torch.nn", "worker"), ("PIL", "s3"), ("filelock", "worker")])
def test_a_missing_library_names_its_extra(module: str, extra: str) -> None:
    found = report(ModuleNotFoundError(f"No module named {module!r}", name=module))
    assert found is not None
    assert found.code == ExtraMissing.code
    assert f"darkroom[{extra}]" in found.hint


@pytest.mark.parametrize("error", [ModuleNotFoundError("x", name="darkroom.nowhere"), ZeroDivisionError(), OSError()])
def test_faults_of_ours_are_no_report(error: Exception) -> None:
    assert report(error) is None


def test_a_value_that_is_none_of_an_options_is_told_of_plainly(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cancel", "--all", "--state", "nope"]) == 2
    assert "error: Invalid value for '--state': 'nope' is not one of 'queued'" in capsys.readouterr().err


def test_exit_codes_of_one_error_alone() -> None:
    assert (WorkerFailed("x", 4).exit_code, Interrupted(2).exit_code) == (4, EXIT_INTERRUPTED)
    assert WorkerFailed.exit_code == DarkroomError.exit_code


def test_a_fault_of_ours_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr("darkroom.cli.doctor.health.workers_up", broken)
    assert run(["health", "--json"]) == 1
    assert '"code": "internal_error", "message": "ZeroDivisionError: boom"' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "wanted"), [(["list", "--json"], True), (["list"], False), (["submit", "--", "--json"], False)]
)
def test_json_is_known_before_the_options_are_read(argv: list[str], *, wanted: bool) -> None:
    assert wants_json(argv) is wanted


def commands() -> Iterator[str]:
    """Every command by its full name."""
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", {})
        yield from (f"{name} {one}" for one in inner) if inner else [name]


def exit_codes() -> set[int]:
    """Of every error in the trees, and those that no error has."""
    open_classes, found = [DarkroomError], {0, EXIT_STORAGE, EXIT_INTERRUPTED, EXIT_TEMPORARY}
    while open_classes:
        one = open_classes.pop()
        found.add(one.exit_code)
        open_classes += one.__subclasses__()
    return found


def test_the_page_has_every_command_with_an_example() -> None:
    sections = re.findall(r"^### darkroom (.+)$", PAGE, re.MULTILINE)
    assert sorted(sections) == sorted(commands())
    for section in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]:
        name = section.partition("\n")[0]
        assert re.search(rf"^\$ .*{name}", section, re.MULTILINE), f"{name} has no example"


def _section(command: str) -> str:
    return re.split(rf"^### darkroom {re.escape(command)}$", PAGE, flags=re.MULTILINE)[1].partition("\n### ")[0]


def test_the_page_has_every_option() -> None:
    for name in commands():
        command = typer.main.get_command(app)
        for part in name.split():
            command = command.commands[part]  # type: ignore[attr-defined]
        section = _section(name)
        if "as `darkroom submit` has them" in section:
            section += _section("submit")
        options = [option for param in command.params for option in param.opts if option.startswith("--")]
        known = {"--json", "--help", *re.findall(r"--[a-z0-9-]+[a-z0-9]", section)}
        assert [option for option in options if option not in known] == [], name


def test_the_page_has_every_exit_code() -> None:
    assert errors.__doc__
    assert worker_errors.__doc__
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)}
    assert exit_codes() <= listed
