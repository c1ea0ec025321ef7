"""Processes that a command starts for a while, so that a signal at any moment leaves none of them behind.

A signal is noted and looked at between two steps, never in the middle of one: raised inside `Popen`, it would lose the
process that was just started.
"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from darkroom.cli.errors import Interrupted

LOOK_SECONDS = 0.05
POLITE_SECONDS = 10.0  # between two SIGTERM: the second one tells a worker not to wait for its jobs
LAST_SECONDS = 5.0
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """Notes SIGINT, SIGTERM and SIGHUP instead of ending the process; a context manager."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def check(self) -> None:
        """Raises Interrupted if a signal came."""
        if self.number is not None:
            raise Interrupted(self.number)

    def pause(self, seconds: float) -> None:
        """Sleeps, shorter if a signal comes. Raises Interrupted then."""
        deadline = time.monotonic() + seconds
        self.check()
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(LOOK_SECONDS, left))
            self.check()

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.number = number


class Child:
    """A process whose output goes to a file; leaving the context stops it."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        """Starts it, in a session of its own: a terminal's Ctrl-C reaches it through `stop` alone."""
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own programs
                command,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def ended(self) -> int | None:
        """The exit code, once there is one."""
        return self._process.poll()

    def log_end(self, lines: int = 15) -> list[str]:
        """What it said last, without colours."""
        return _COLOURS.sub("", self._log.read_text(errors="replace")).splitlines()[-lines:]

    def wait(self, signals: Signals) -> int:
        """Its exit code. Raises Interrupted if a signal comes before."""
        while self._process.poll() is None:
            signals.pause(LOOK_SECONDS)
        signals.check()  # a Ctrl-C may reach a process before it has its own session
        return self._process.returncode

    def stop(self) -> None:
        """SIGTERM, once more for one that waits for its jobs, at last SIGKILL; its own children follow it."""
        for end, seconds in ((signal.SIGTERM, POLITE_SECONDS), (signal.SIGTERM, LAST_SECONDS), (signal.SIGKILL, None)):
            if self._process.poll() is not None:
                return
            self._process.send_signal(end)
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                continue

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
