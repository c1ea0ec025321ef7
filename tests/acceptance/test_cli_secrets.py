"""What stands in a variable is nobody's to read in a command's output: every command, with secrets in every place."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from darkroom.cli.app import app
from darkroom.cli.doctor import checks
from darkroom.cli.doctor.probe import Probe
from tests.acceptance.conftest import MODEL, SECRET, Call

REDIS_URL, STORAGE_URL = "DARKROOM_REDIS_URL", "DARKROOM_STORAGE_URL"

#: Some can be used, though nobody is there; the others are refused, by one library's reading of a URL or by ours.
REDIS = [
    f"redis://user:{SECRET}@127.0.0.1:1/0",
    f"redis+sentinel://user:{SECRET}@127.0.0.1:1,127.0.0.1:2/master/0?sentinel_password={SECRET}",
    f"rediss://:{SECRET}@127.0.0.1:1/0?ssl_cert_reqs=none",
    f"redis://127.0.0.1:1/0?password={SECRET}",
    f"redis://user:1234?{SECRET}=x@127.0.0.1:1/0",
    f"redis://127.0.0.1:1/0#{SECRET}",
    f"redis://:1#{SECRET}@127.0.0.1:1/0",
    f"redis://:1/{SECRET}@127.0.0.1:1/0",
    f"redis://127.0.0.1:{SECRET}/0",
    f"redis://:{SECRET}\u2100@127.0.0.1:1/0",
    f"redis://:[{SECRET}@127.0.0.1:1/0",
    f"redis:/:{SECRET}@127.0.0.1:1/0",
    f"http://user:{SECRET}@127.0.0.1:1/0",
    SECRET,
]
STORAGE = [
    f"s3://key:{SECRET}@bucket/prefix",
    f"s3://key:1/{SECRET}@bucket",
    f"s3://key:1#{SECRET}@bucket",
    f"s3://bucket?secret={SECRET}",
    f"s3://bucket#{SECRET}",
    f"s3://key:{SECRET}",
    f"s3://key:{SECRET}\u2100@bucket",
    f"s3://key:[{SECRET}@bucket",
    f"s3:/key:{SECRET}@bucket",
    f"key:{SECRET}@bucket",
    f"file://user:{SECRET}@host/folder",
    f"file:///folder?{SECRET}",
    f"https://user:{SECRET}@127.0.0.1:1/bucket?token={SECRET}",
    SECRET,
]
ENDPOINT = [
    f"http://key:{SECRET}@127.0.0.1:1",
    f"http://127.0.0.1:1?secret={SECRET}",
    f"http://127.0.0.1:{SECRET}",
    f"http://127.0.0.1:1#{SECRET}",
    f"http://key:{SECRET}\u2100@127.0.0.1:1",
]


def every_command(folder: Path) -> Iterator[list[str]]:
    """With what each must be given; more where it would not look at its settings, or would not end, otherwise."""
    more = {
        "submit": ["--save", f"{folder}/"],
        "worker": ["--model", MODEL, "--gpus", "many"],  # it looks at its settings, and goes no further
        "demo": ["--output", str(folder)],
    }
    for path, command in leaves([], typer.main.get_command(app)):
        needed = ["x" for option in command.params if option.required and option.param_type_name == "argument"]
        yield [*path, *needed, *more.get(path[-1], [])]


def leaves(path: list[str], command: Any) -> Iterator[tuple[list[str], Any]]:
    """The commands below a group, and below the groups in it."""
    for name, below in getattr(command, "commands", {}).items():
        yield from leaves([*path, name], below)
    if not hasattr(command, "commands"):
        yield path, command


@pytest.fixture(autouse=True)
def no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """`doctor` asks torch in a process of its own, for seconds; that one reads none of these variables."""
    monkeypatch.setattr(checks, "probe", lambda: Probe(["cpu"]))


def test_no_command_shows_a_secret(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commands = list(every_command(tmp_path))
    assert len(commands) > 15
    for variable, value in (*((REDIS_URL, url) for url in REDIS[:3]), *((STORAGE_URL, url) for url in STORAGE[:1])):
        with monkeypatch.context() as changed:
            changed.setenv(variable, value)
            for command in commands:
                told = call(*command)  # which looks for the secret
                assert "Traceback" not in told.err, (value, command)


@pytest.mark.parametrize(
    ("variable", "values"),
    [(REDIS_URL, REDIS), (STORAGE_URL, STORAGE), ("DARKROOM_S3_ENDPOINT_URL", ENDPOINT)],
    ids=["redis", "storage", "endpoint"],
)
def test_no_form_of_a_url_shows_its_secret(
    call: Call, monkeypatch: pytest.MonkeyPatch, variable: str, values: list[str]
) -> None:
    for value in values:
        with monkeypatch.context() as changed:
            if variable not in (REDIS_URL, STORAGE_URL):
                changed.setenv(STORAGE_URL, "s3://bucket")
            changed.setenv(variable, value)
            told = call("doctor")  # it looks at them all, and goes on after each fault
            assert told.code == 1
            assert "Traceback" not in told.err, value
