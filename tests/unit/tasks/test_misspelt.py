"""Variables that look like settings: told of once, with the one that was meant, and nothing else is."""

import json
import logging
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from darkroom.cli.app import run
from darkroom.storage import StorageSettings
from darkroom.tasks import AsyncDarkroom, Darkroom, TaskSettings
from darkroom.tasks import misspelt as module
from darkroom.tasks.misspelt import misspelt
from darkroom.worker import __main__ as worker
from darkroom.worker.process.logs import configure_logs
from darkroom.worker.settings import WorkerSettings

ROOT = Path(__file__).parents[3]
ALL = (TaskSettings, StorageSettings, WorkerSettings)


@pytest.fixture(autouse=True)
def _nothing_told_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_told", set())


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("DARKROOM_REDIS_ULR", "DARKROOM_REDIS_URL"),
        ("DARKROOM_REDISURL", "DARKROOM_REDIS_URL"),
        ("DARKROOM_STORGE_URL", "DARKROOM_STORAGE_URL"),
        ("DARKROOM_S3_ENDPOINT", "DARKROOM_S3_ENDPOINT_URL"),
        ("DARKROOM_S3_ACCESS_KEY", "DARKROOM_S3_ACCESS_KEY_ID"),
        ("DARKROOM_LEASE_SECS", "DARKROOM_LEASE_SECONDS"),
        ("DARKROOM_MODEL_DIR", "DARKROOM_MODELS_DIR"),
        ("DARKROOM_CONCURENCY", "DARKROOM_CONCURRENCY"),
        ("DARKROOM_MAX_ATTEMPT", "DARKROOM_MAX_ATTEMPTS"),
    ],
)
def test_the_near_one_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, near: str) -> None:
    monkeypatch.setenv(variable, "1")
    assert list(misspelt(*ALL)) == [(variable, near)]
    assert list(misspelt(*ALL)) == []


def test_what_has_a_meaning_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also to who looks at the settings of one package alone: the others', and those of compose and make."""
    text = "".join(
        (ROOT / name).read_text() for name in ("docker-compose.yml", ".env.example", "Makefile", "README.md")
    )
    names = set(re.findall(r"DARKROOM_[A-Z0-9_]*[A-Z0-9]", text))
    names |= {f"DARKROOM_{name.upper()}" for kind in ALL for name in kind.model_fields}
    assert {"DARKROOM_MODEL", "DARKROOM_BUCKET", "DARKROOM_REDIS_PORT", "DARKROOM_LIFELINE"} <= names
    for name in [*names, "DARKROOM", "DARKROOM_", "DARKROOM_HOME", "DARKROOM_OF_MINE", "MY_DARKROOM_REDIS_ULR"]:
        monkeypatch.setenv(name, "1")
    for kind in ALL:
        assert list(misspelt(kind)) == []


def test_a_client_tells_it_in_the_log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Not as a warning, which some programs turn into an error."""
    monkeypatch.setenv("DARKROOM_REDIS_ULR", "redis://elsewhere")
    with caplog.at_level(logging.WARNING), warnings.catch_warnings():
        warnings.simplefilter("error")
        Darkroom().close()
        AsyncDarkroom()
    assert caplog.messages == ["DARKROOM_REDIS_ULR is no setting of Darkroom's; DARKROOM_REDIS_URL is"]
    assert "elsewhere" not in caplog.text


def test_settings_that_are_given_are_not_read(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DARKROOM_REDIS_ULR", "redis://elsewhere")
    Darkroom(TaskSettings()).close()
    assert not caplog.messages


def test_the_command_tells_it_beside_its_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DARKROOM_STORGE_URL", "file:///x")
    monkeypatch.setenv("DARKROOM_LEASE_SECS", "5")
    assert run(["submit", "--json"]) == 2
    said = capsys.readouterr()
    assert json.loads(said.out)["error"]["code"] == "usage"
    assert said.err.splitlines() == [
        "note: DARKROOM_LEASE_SECS is no setting; DARKROOM_LEASE_SECONDS is",
        "note: DARKROOM_STORGE_URL is no setting; DARKROOM_STORAGE_URL is",
    ]


class _NoService:
    def __init__(self, *_: Any) -> None:
        pass

    def run(self) -> None:
        pass


def test_a_worker_tells_it_in_its_log(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(worker, "Service", _NoService)
    monkeypatch.setattr(worker, "configure_logs", lambda form, level: configure_logs(form, level, sys.stderr))
    monkeypatch.setenv("DARKROOM_LEASE_SECS", "5")
    assert worker.main() == 0
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (line["action"], line["variable"], line["near"]) == (
        "settings.misspelt",
        "DARKROOM_LEASE_SECS",
        "DARKROOM_LEASE_SECONDS",
    )
