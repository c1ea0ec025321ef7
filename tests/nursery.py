"""Real processes that are up at once: forks of one process that has imported everything already.

Importing torch and diffusers takes longer than most of what tests want of a process. What a fork runs is the program
itself, with arguments, environment, folder and standard streams of its own; it ends as any interpreter does. Python
programs that it starts by `sys.executable` are forks as well. So are the test processes of one run, which share the
nursery.
"""

import gc
import json
import os
import runpy
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile, mkdtemp
from typing import Any

from . import interpreter

VARIABLE = "TESTS_NURSERY"  # the socket of the nursery that is shared

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
    """The process that forks, and what it says of our forks."""

    def __init__(self) -> None:
        if VARIABLE not in os.environ:
            self._process, os.environ[VARIABLE] = _found()
        self._address = os.environ[VARIABLE]
        #: The path of a program that is an interpreter, and a fork.
        self.python = str(Path(self._address).with_name("python"))
        self.codes: dict[int, int] = {}
        self._started: list[int] = []
        self._starting = threading.Lock()
        self._heard = threading.Condition()
        self._ours = socket.socket(socket.AF_UNIX)
        self._ours.connect(self._address)
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
        streams = [0 if stdin is None else stdin, 1 if stdout is None else stdout, 2 if stderr is None else stderr]
        with self._starting, self._heard:
            before = len(self._started)
            interpreter.ask(self._ours, self.python, arguments, streams, **(environment or {}))
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

    def command(self) -> list[str]:
        """As `python`, but what it starts by `sys.executable` is no fork."""
        return [*_command(self._address), sys.executable]

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
    """The one of this run of tests; it ends with the process that asked first."""
    return Nursery()


def _found() -> tuple["subprocess.Popen[bytes]", str]:
    """Starts a nursery; the path of its socket."""
    address = Path(mkdtemp(prefix="nursery-")) / "socket"
    python = address.with_name("python")
    python.write_text(f'#!/bin/sh\nexec {shlex.join(_command(str(address)))} "$0" "$@"\n')
    python.chmod(0o700)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(address))
        door.listen()
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.nursery", str(door.fileno())],
            pass_fds=[door.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    return process, str(address)


def _command(address: str) -> list[str]:
    return [sys.executable, "-IS", interpreter.__file__, address]


class Keeper:
    """In the nursery: its forks, by the connection of the process that asked for them. The first is the founder's."""

    def __init__(self, door: socket.socket) -> None:
        self._door = door
        self._founder = door.accept()[0]
        self._living: dict[socket.socket, set[int]] = {self._founder: set()}

    def serve(self) -> dict[str, Any] | None:
        """Until the founder has gone. In a fork: what it is to run."""
        while self._founder in self._living:
            self._tell_ends()
            for ready in select.select([self._door, *self._living], [], [], LOOK_SECONDS)[0]:
                if ready is self._door:
                    self._living[self._door.accept()[0]] = set()
                elif (asked := self._hear(ready)) is not None:
                    return asked
        for client in [*self._living]:
            self._leave(client)
        return None

    def _hear(self, client: socket.socket) -> dict[str, Any] | None:
        asked, streams, _, _ = socket.recv_fds(client, PIECE, 3)
        while asked and not asked.endswith(b"\n"):
            asked += client.recv(PIECE)
        if not asked:
            self._leave(client)
        elif (pid := os.fork()) == 0:
            for open_socket in [self._door, *self._living]:
                open_socket.close()
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
                os.close(stream)
            return dict(json.loads(asked))
        else:
            self._living[client].add(pid)
            _tell(client, f"started {pid}")
        for stream in streams:
            os.close(stream)
        return None

    def _leave(self, client: socket.socket) -> None:
        """Nobody waits for its forks any more."""
        for pid in self._living.pop(client):
            os.kill(pid, signal.SIGKILL)
            with suppress(ProcessLookupError):  # it has no session of its own yet
                os.killpg(pid, signal.SIGKILL)
        client.close()

    def _tell_ends(self) -> None:
        with suppress(ChildProcessError):  # there is none
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                for client, living in self._living.items():
                    if ended[0] in living:
                        living.remove(ended[0])
                        _tell(client, f"ended {ended[0]} {os.waitstatus_to_exitcode(ended[1])}")


def _tell(client: socket.socket, text: str) -> None:
    with suppress(OSError):  # it is about to leave
        client.sendall(f"{text}\n".encode())


def run(executable: str, arguments: list[str], environment: dict[str, str], folder: str) -> None:
    """What an interpreter with these arguments would do."""
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.executable = executable
    prefer(environment.get("PYTHONPATH", ""))
    form, program, *sys.argv[1:] = arguments
    if form == "-m":
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        sys.argv[0] = form
        exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})


def prefer(folders: str) -> None:
    """Has modules found first in these, also those that were imported from elsewhere."""
    new = [folder for folder in folders.split(os.pathsep) if folder and folder not in sys.path]
    sys.path[:0] = new
    theirs = {path.stem for folder in new for path in Path(folder).glob("*")}
    for name in [name for name in sys.modules if name.partition(".")[0] in theirs]:
        del sys.modules[name]


def main() -> None:
    door = socket.socket(fileno=int(sys.argv[1]))
    folder = Path(door.getsockname()).parent
    for module in LATE:
        import_module(module)
    gc.collect()
    gc.freeze()  # else each fork's own collections look at all of it, and copy it
    if (asked := Keeper(door).serve()) is not None:
        run(**asked)
    else:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
