"""A number of worker processes, as a machine room sees them: they are started, killed, frozen, and started again."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

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
        self._model, self._folder, self._count = model, folder, 0
        self._living: list[int] = []
        self._logs: dict[int, Path] = {}
        self.codes: dict[int, int] = {}  # of those that ended, by process id
        self._changed = threading.Condition()
        self._warm = False
        self._nursery = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.nursery"],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def living(self) -> list[int]:
        """Process ids, the oldest first."""
        with self._changed:
            return [*self._living]

    def start(self, count: int = 1) -> list[int]:
        """Starts workers; returns their process ids at once, before they are ready."""
        assert self._nursery.stdin
        for _ in range(count):
            self._count += 1
            self._nursery.stdin.write(f"{self._model} {self._folder / f'worker-{self._count}.log'}\n")
        self._nursery.stdin.flush()
        wanted = self._count
        self._wait(lambda: [*self._logs], wanted)
        return [*self._logs][wanted - count :]

    def ready(self, pid: int) -> bool:
        """Whether it takes jobs."""
        return self.said(pid, "worker.ready")

    def said(self, pid: int, action: str) -> bool:
        """Whether there is a line of this action in its log."""
        log = self._logs[pid]
        return log.exists() and f'"action": "{action}"' in log.read_text(errors="replace")

    def kill(self, pid: int) -> None:
        """kill -9; returns when the process is gone."""
        os.kill(pid, signal.SIGKILL)
        self.end_of(pid)

    def end_of(self, pid: int) -> int:
        """The exit code, as soon as the process has ended; negative: the signal."""
        self._wait(lambda: [pid] if pid in self.codes else [], 1)
        return self.codes[pid]

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
        with self._changed:
            assert self._changed.wait_for(lambda: self._warm, PATIENCE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._nursery.stdin
        assert self._nursery.stdout
        self._nursery.stdin.close()
        self._nursery.wait(PATIENCE)
        self._listener.join()
        self._nursery.stdout.close()

    def _wait(self, found: Callable[[], list[int]], count: int) -> list[int]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(found()) >= count, PATIENCE), "the nursery says nothing"
            return found()

    def _listen(self) -> None:
        assert self._nursery.stdout
        for line in self._nursery.stdout:
            what, *told = line.split()
            with self._changed:
                if what == "warm":
                    self._warm = True
                elif what == "started":
                    self._living.append(int(told[0]))
                    self._logs[int(told[0])] = Path(told[1])
                else:
                    self._living.remove(int(told[0]))
                    self.codes[int(told[0])] = int(told[1])
                self._changed.notify_all()
