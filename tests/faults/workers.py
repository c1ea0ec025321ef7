"""A number of worker processes, as a machine room sees them: they are started, killed, frozen, and started again."""

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.nursery import Fork, nursery

PATIENCE = 120.0  # seconds; for what takes one where nobody disturbs it


def until(reached: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Returns once it is so; fails where it never is."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


class Workers:
    """Processes of one model, out of a nursery; each has a log of its own in `folder`."""

    def __init__(self, model: str, environment: Mapping[str, str], folder: Path) -> None:
        self._model, self._environment, self._folder = model, environment, folder
        self._logs: dict[Fork, Path] = {}

    @property
    def living(self) -> list[int]:
        """Process ids, the oldest first."""
        return [fork.pid for fork in self._logs if fork.poll() is None]

    def start(self, count: int = 1) -> list[int]:
        """Starts workers; returns their process ids at once, before they are ready."""
        return [self._start() for _ in range(count)]

    def ready(self, pid: int) -> bool:
        """Whether it takes jobs."""
        return self.said(pid, "worker.ready")

    def said(self, pid: int, action: str) -> bool:
        """Whether there is a line of this action in its log."""
        log = next(log for fork, log in self._logs.items() if fork.pid == pid)
        return log.exists() and f'"action": "{action}"' in log.read_text(errors="replace")

    def kill(self, pid: int) -> None:
        """kill -9; returns when the process is gone."""
        os.kill(pid, signal.SIGKILL)
        self.end_of(pid)

    def end_of(self, pid: int) -> int:
        """The exit code, as soon as the process has ended; negative: the signal."""
        return nursery().code_of(pid, PATIENCE)

    def threads(self) -> list[int]:
        """How many threads each has."""
        return [psutil.Process(pid).num_threads() for pid in self.living]

    def stop(self) -> list[int]:
        """Asks all to stop; their exit codes."""
        pids = self.living
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        return [self.end_of(pid) for pid in pids]

    def logs(self) -> str:
        """What all of them said."""
        return "".join(path.read_text(errors="replace") for path in sorted(self._folder.glob("worker-*.log")))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pid in self.living:
            self.kill(pid)

    def _start(self) -> int:
        log = self._folder / f"worker-{len(self._logs) + 1}.log"
        with log.open("ab") as file, Path(os.devnull).open("rb") as nothing:
            arguments = ["-m", "darkroom.worker", self._model]
            fork = nursery().start(arguments, self._environment, stdin=nothing.fileno(), stderr=file.fileno())
        self._logs[fork] = log
        return fork.pid
