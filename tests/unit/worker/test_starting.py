"""A worker process and its parent, before any model is loaded."""

import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from darkroom.worker import supervisor


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
    ("models", "variables", "code", "named"),
    [
        (["tiny"], {"DARKROOM_LEASE_SECONDS": "soon"}, 2, "DARKROOM_LEASE_SECONDS"),
        ([], {}, 4, "no model is named"),
    ],
)
def test_a_wrong_start_ends_with_its_code_and_no_traceback(
    models: list[str], variables: dict[str, str], code: int, named: str
) -> None:
    command = [sys.executable, "-m", "darkroom.worker", *models]
    ended = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True)
    assert ended.returncode == code
    assert named in ended.stderr and "Traceback" not in ended.stderr
