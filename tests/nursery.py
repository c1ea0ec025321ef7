"""Real processes that are up at once: forks of one process that has imported everything already.

Importing torch and diffusers takes longer than most of what tests want of a process. What a fork runs is the program
itself, with arguments, environment, folder and standard streams of its own; it ends as any interpreter does.
"""

import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from tempfile import TemporaryFile
from typing import Any

LOOK_SECONDS = 0.02
START_SECONDS = 300.0  # to import everything, on a busy machine
PIECE = 1 << 16  # bytes

#: What programs import only when they need it.
LATE = (
    "celery.app.amqp",
    "celery.concurrency.thread",
    "celery.fixups",
    "celery.worker.consumer",
    "celery.worker.worker",
    "darkroom.cli.app",
    "darkroom.storage.s3",
    "darkroom.worker.__main__",
    "darkroom.worker.process.supervisor",
    "diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl",
    "diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl_img2img",
)


class Fork:
    """A process of the nursery; much as `subprocess.Popen`."""

    def __init__(self, pid: int, nursery: "Nursery") -> None:
        self.pid, self._nursery = pid, nursery

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._nursery.codes.get(self.pid)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code once it has ended. Raises subprocess.TimeoutExpired."""
        return self._nursery.code_of(self.pid, timeout)

    def send_signal(self, number: int) -> None:
        with suppress(ProcessLookupError):  # it has ended
            os.kill(self.pid, number)


class Nursery:
    """The process that forks, and what it says of its forks."""

    def __init__(self) -> None:
        self.codes: dict[int, int] = {}
        self._started: list[int] = []
        self._starting = threading.Lock()
        self._heard = threading.Condition()
        self._ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.nursery", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        threading.Thread(target=self._listen, daemon=True).start()

    def start(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str] | None = None,
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> Fork:
        """Runs `-m MODULE ...` or `-c PROGRAM ...` in a session of its own; `environment` goes over that of the tests.

        Streams are file descriptors; those that are not given are this process's.
        """
        asked = {"arguments": [*arguments], "environment": {**os.environ, **(environment or {})}, "folder": os.getcwd()}  # noqa: PTH109
        streams = [0 if stdin is None else stdin, 1 if stdout is None else stdout, 2 if stderr is None else stderr]
        with self._starting, self._heard:
            before = len(self._started)
            socket.send_fds(self._ours, [json.dumps(asked).encode(), b"\n"], streams)
            assert self._heard.wait_for(lambda: len(self._started) > before, START_SECONDS), "the nursery is dead"
            return Fork(self._started[-1], self)

    def run(
        self, arguments: Sequence[str], environment: Mapping[str, str] | None = None, *, text: str | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """As `subprocess.run` with its output captured: to its end, within two minutes."""
        with TemporaryFile("w+") as given, TemporaryFile("w+") as out, TemporaryFile("w+") as err:
            given.write(text or "")
            given.seek(0)
            streams = {"stdin": given.fileno(), "stdout": out.fileno(), "stderr": err.fileno()}
            code = self.start(arguments, environment, **streams).wait(120)
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess([*arguments], code, out.read(), err.read())

    def code_of(self, pid: int, timeout: float | None) -> int:
        with self._heard:
            if not self._heard.wait_for(lambda: pid in self.codes, timeout):
                raise subprocess.TimeoutExpired(str(pid), timeout or 0)
            return self.codes[pid]

    def _listen(self) -> None:
        for line in self._ours.makefile():
            what, pid, *code = line.split()
            with self._heard:
                if what == "started":
                    self._started.append(int(pid))
                else:
                    self.codes[int(pid)] = int(code[0])
                self._heard.notify_all()


@cache
def nursery() -> Nursery:
    """The one of this process; it ends with it."""
    return Nursery()


def serve(channel: socket.socket) -> dict[str, Any] | None:
    """In the nursery until the other side has gone; forks that live then are killed. In a fork: what it is to run."""
    living: set[int] = set()
    while True:
        while living and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            living.remove(ended[0])
            channel.send(f"ended {ended[0]} {os.waitstatus_to_exitcode(ended[1])}\n".encode())
        if not select.select([channel], [], [], LOOK_SECONDS)[0]:
            continue
        asked, streams, _, _ = socket.recv_fds(channel, PIECE, 3)
        if not asked:
            break
        while not asked.endswith(b"\n"):
            asked += channel.recv(PIECE)
        if (pid := os.fork()) == 0:
            channel.close()
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
                os.close(stream)
            return dict(json.loads(asked))
        living.add(pid)
        for stream in streams:
            os.close(stream)
        channel.send(f"started {pid}\n".encode())
    for pid in living:
        os.kill(pid, signal.SIGKILL)
    return None


def run(arguments: list[str], environment: dict[str, str], folder: str) -> None:
    """What an interpreter with these arguments would do."""
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    form, program, *sys.argv[1:] = arguments
    if form == "-m":
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        sys.argv[0] = form
        exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    for module in LATE:
        import_module(module)
    if (asked := serve(channel)) is not None:
        run(**asked)


if __name__ == "__main__":
    main()
