"""Real processes for tests: what they print is heard as it comes, and none is left behind."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from tests.nursery import nursery

Line = dict[str, Any]
PATIENCE = 60.0  # seconds; a busy machine is slow, a broken program never comes


class Process:
    """A Python program whose standard error is lines of JSON, heard on a thread."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        stdin, told = os.pipe()
        said, stderr = os.pipe()
        self.inner = nursery().start(arguments, environment, stdin=stdin, stderr=stderr)
        os.close(stdin)
        os.close(stderr)
        self._stdin, self._stderr = os.fdopen(told, "w"), os.fdopen(said)
        self.lines: list[Line] = []
        self._heard = threading.Condition()
        self._ended = False
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        return self.inner.pid

    def of(self, action: str, **fields: object) -> list[Line]:
        """The lines so far of this action, with these fields."""
        wanted = {"action": action, **fields}
        with self._heard:
            return [line for line in self.lines if wanted.items() <= line.items()]

    def wait_for(self, action: str, count: int = 1, **fields: object) -> Line:
        """The so-manieth line of this action, as soon as it is there."""
        deadline = time.monotonic() + PATIENCE
        with self._heard:
            while len(found := self.of(action, **fields)) < count:
                left = deadline - time.monotonic()
                assert left > 0 and not self._ended, f"no {action} {fields} in {self.lines[-20:]}"
                self._heard.wait(min(left, 1))
        return found[count - 1]

    def tell(self, text: str) -> None:
        """To its standard input."""
        self._stdin.write(text)
        self._stdin.flush()

    def send(self, number: signal.Signals) -> None:
        self.inner.send_signal(number)

    def end(self) -> int:
        """Its exit code, once it has ended by itself."""
        code = self.inner.wait(PATIENCE)
        self._listener.join(PATIENCE)
        return code

    def terminate(self) -> int:
        """Asks it to stop; its exit code."""
        self.send(signal.SIGTERM)
        return self.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stdin.close()
        if self.inner.poll() is None:
            self.send(signal.SIGCONT)
            self.send(signal.SIGTERM)
            try:
                self.inner.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGKILL)
                self.inner.wait()
        self._listener.join(10)
        self._stderr.close()

    def _listen(self) -> None:
        for text in self._stderr:
            try:
                line = json.loads(text)
            except ValueError:
                line = {"action": "text", "text": text.rstrip()}
            with self._heard:
                self.lines.append(line)
                self._heard.notify_all()
        with self._heard:
            self._ended = True
            self._heard.notify_all()
