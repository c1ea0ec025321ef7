"""One side of a measurement: a worker process with a server of its own, and a client that asks and hears."""

import os
import queue
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from PIL import Image

from bench.serving.asks import Ask
from bench.serving.model import Model
from bench.serving.program import Program, SideFailed
from darkroom.cli.demo.server import LocalServer
from darkroom.tasks import ClientClosed, QueueError


@dataclass(frozen=True, slots=True)
class Heard:
    """A submission that is done, by `time.perf_counter`."""

    token: str
    time: float
    error: str | None


@dataclass(frozen=True)
class Setup:
    """What every side is started with. `threads` 0: all cores.

    `free`: the denoiser costs nothing. `traced`: Darkroom's worker runs under a profiler.
    `settings` are further ones of Darkroom's worker, by their names; `sizes` in pixels, which it is to be ready for.
    """

    model: Model
    _: KW_ONLY
    threads: int = 0
    free: bool = False
    traced: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    sizes: tuple[int, ...] = ()


class Side(ABC):
    """A worker that is started and stopped as a context manager.

    `batch`: how many asks of one shape the client may put into one submission. `shares`: whether pictures of several
    are made together. `pid` is its first process.
    """

    shares = False

    def __init__(self, name: str, setup: Setup, *, batch: int = 1, compiled: bool = False) -> None:
        self.name, self.batch = name, batch
        self._setup, self._compiled = setup, compiled
        self._heard: queue.SimpleQueue[Heard] = queue.SimpleQueue()
        self._started = ExitStack()
        self._closed = False

    @property
    def pid(self) -> int:
        return self._program.pid

    @abstractmethod
    def submit(self, asks: Sequence[Ask]) -> str:
        """Asks and returns at once; the token is heard of when it is done."""

    @abstractmethod
    def picture(self, token: str) -> Image.Image:
        """The first picture of a submission that is done."""

    def hear(self, seconds: float) -> Heard | None:
        """The next submission that is done, None if there is none within so many seconds. Raises SideFailed."""
        deadline = time.perf_counter() + seconds
        while True:
            left = deadline - time.perf_counter()
            try:
                heard = self._heard.get(timeout=max(0.0, min(left, 1.0)))
            except queue.Empty:
                self._program.check()
                if left <= 1.0:
                    return None
                continue
            if heard.error is not None:
                raise SideFailed(f"{self.name}: {heard.error}\n{self._program.log_end()}")
            return heard

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
            self._url = stack.enter_context(LocalServer()).url
            stack.callback(self._close)
            log = self._folder / "log"
            self._program = stack.enter_context(Program(self._command(), self._environment(), log))
            self._connect()
            threading.Thread(target=self._listen, name=f"ear-{self.name}", daemon=True).start()
            self._started = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._started.close()

    def _listen(self) -> None:
        try:
            for token, error in self._done():
                self._heard.put(Heard(token, time.perf_counter(), error))
        except (redis.RedisError, QueueError, ClientClosed, ValueError, OSError) as error:
            if not self._closed:
                self._heard.put(Heard("", time.perf_counter(), f"the client cannot hear: {error!r}"))

    def _base(self) -> dict[str, str]:
        """The environment without the settings of whoever runs this."""
        found = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
        found["HF_HUB_OFFLINE"] = "1"
        if self._setup.threads:
            found |= {"OMP_NUM_THREADS": str(self._setup.threads), "MKL_NUM_THREADS": str(self._setup.threads)}
        return found

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _environment(self) -> dict[str, str]: ...

    @abstractmethod
    def _connect(self) -> None:
        """Makes the client; the worker may still be loading."""

    @abstractmethod
    def _done(self) -> Iterator[tuple[str, str | None]]:
        """Tokens as they are done, with an error where they failed; for ever."""

    @abstractmethod
    def _close(self) -> None:
        """Closes the client, after the worker and before the server."""
