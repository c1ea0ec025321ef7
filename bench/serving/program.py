"""A program that a measurement starts for a while, with its output in a file."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

POLITE_SECONDS = 15.0


class SideFailed(RuntimeError):
    """A side's program ended or a picture failed; the message has the end of its log."""


class Program:
    """Runs until the context is left. In a session of its own, so that its children can be ended with it."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._log, self._name = log, " ".join(command[1:4])
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Raises SideFailed where the program has ended."""
        if self._process.poll() is not None:
            raise SideFailed(f"{self._name} ended with {self._process.returncode}:\n{self.log_end()}")

    def log_end(self, lines: int = 25) -> str:
        """What it said last."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for whatever of the session is left after a while."""
        if self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(POLITE_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
