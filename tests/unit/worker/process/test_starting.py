"""A worker process and its parent, before any model is loaded."""

import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from darkroom.worker.process import supervisor
from tests.nursery import nursery


def test_a_signal_while_a_child_is_being_started_still_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real, made = subprocess.Popen, []

    def slow_to_return(_: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        made.append(real([sys.executable, "-c", "import sys; sys.stdin.read()"], **options))
        os.kill(os.getpid(), signal.SIGTERM)  # before the parent knows the child
        return made[-1]

    monkeypatch.setattr(supervisor.subprocess, "Popen", slow_to_return)
    assert supervisor.Supervisor(["tiny"], [None, "cuda:1"]).run() == 0
    assert [child.returncode for child in made] == [-signal.SIGTERM]  # and the second was not started at all


@pytest.mark.parametrize(
    ("own", "seen"),
    [
        ({}, {"GOMP_SPINCOUNT": "30000"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "active"}),
    ],
)
def test_openmps_threads_wait_no_longer_than_is_of_use_unless_the_user_says_otherwise(
    own: dict[str, str], seen: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, given = subprocess.Popen, list[dict[str, str]]()

    def look(_: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        given.append(options["env"])
        os.kill(os.getpid(), signal.SIGTERM)
        return real([sys.executable, "-c", ""], **options)

    for name in supervisor.THEIR_OWN:
        monkeypatch.delenv(name, raising=False)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(supervisor.subprocess, "Popen", look)
    assert supervisor.Supervisor(["tiny"]).run() == 0
    assert {name: given[0][name] for name in supervisor.THEIR_OWN if name in given[0]} == seen


@pytest.mark.parametrize(
    ("models", "variables", "code", "named"),
    [
        (["tiny"], {"DARKROOM_LEASE_SECONDS": "soon"}, 2, "DARKROOM_LEASE_SECONDS"),
        ([], {}, 4, "no model is named"),
    ],
)
def test_a_wrong_start_ends_with_its_code_and_no_traceback(
    models: list[str], variables: dict[str, str], code: int, named: str
) -> None:
    command = [nursery().python, "-m", "darkroom.worker", *models]
    ended = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True)
    assert ended.returncode == code
    assert named in ended.stderr and "Traceback" not in ended.stderr
