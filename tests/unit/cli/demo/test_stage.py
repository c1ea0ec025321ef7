"""Processes for a while, and signals in between."""

import os
import signal
import sys
from pathlib import Path

import pytest

from darkroom.cli.demo import stage
from darkroom.cli.demo.stage import Child, Signals
from darkroom.cli.errors import Interrupted

STUBBORN = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"


def child(code: str, folder: Path, **environment: str) -> Child:
    return Child([sys.executable, "-c", code], environment, folder / "log")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_noted_and_raised_where_it_is_asked_for(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Signals() as signals:
        signals.check()
        os.kill(os.getpid(), number)
        with pytest.raises(Interrupted) as caught:
            signals.pause(60)
    assert caught.value.exit_code == 128 + number
    assert signal.getsignal(number) is before


def test_a_child_tells_its_code_and_its_last_words(tmp_path: Path) -> None:
    with Signals() as signals, child("import os, sys; print(os.environ['X']); sys.exit(3)", tmp_path, X="hi") as one:
        assert one.wait(signals) == 3
    assert one.log_end() == ["hi"]


def test_last_words_have_no_colours(tmp_path: Path) -> None:
    with Signals() as signals, child("print('\\x1b[31mred\\x1b[0m'); print('b')", tmp_path) as one:
        one.wait(signals)
    assert one.log_end(2) == ["red", "b"]


def test_leaving_stops_the_child(tmp_path: Path) -> None:
    with child("import signal; signal.pause()", tmp_path) as one:
        assert one.ended is None
    assert one.ended == -signal.SIGTERM


def test_one_that_does_not_hear_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "POLITE_SECONDS", 0.05)
    monkeypatch.setattr(stage, "LAST_SECONDS", 0.05)
    with Signals() as signals, child(STUBBORN, tmp_path) as one:
        while one.log_end() != ["up"]:
            signals.pause(0.01)
    assert one.ended == -signal.SIGKILL


def test_a_signal_while_waiting_for_a_child(tmp_path: Path) -> None:
    with Signals() as signals, child("import signal; signal.pause()", tmp_path) as one:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Interrupted):
            one.wait(signals)
    assert one.ended is not None
