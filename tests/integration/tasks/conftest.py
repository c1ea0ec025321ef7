"""Both clients under one contract, a model on offer, and servers in trouble."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import redis
from pydantic import SecretStr

from darkroom.cli.demo.server import LocalServer
from darkroom.tasks import Darkroom, TaskSettings
from darkroom.tasks.redis_io import BlockingIO
from tests.integration.hand import Hand

from .faces import blocking, event_loop
from .floor import Floor

Faces = Callable[..., Darkroom]


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """The block takes no longer."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


@pytest.fixture
def stuck() -> Iterator[TaskSettings]:
    """Settings of a server that takes connections and answers nothing."""
    with LocalServer() as server:
        assert server.process
        server.process.send_signal(signal.SIGSTOP)
        yield TaskSettings(redis_url=SecretStr(server.url))
        server.process.send_signal(signal.SIGCONT)


@pytest.fixture(params=[blocking, event_loop], ids=["blocking", "asyncio"])
def face(request: pytest.FixtureRequest) -> Iterator[Faces]:
    """Makes clients of one kind, and closes them."""
    made: list[Darkroom] = []

    def make(settings: TaskSettings, **options: object) -> Darkroom:
        made.append(request.param(settings, **options))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def hand(task_settings: TaskSettings) -> Iterator[Hand]:
    io = BlockingIO(task_settings)
    yield Hand(io)
    io.close()


@pytest.fixture
def client(face: Faces, task_settings: TaskSettings, hand: Hand) -> Darkroom:
    """Either client; a worker serves `sdxl`."""
    hand.serve()
    return face(task_settings)


@pytest.fixture
def floor(our_clock: None, task_settings: TaskSettings, raw: "redis.Redis[str]") -> Iterator[Floor]:
    """One worker, of `sdxl`, in virtual time."""
    floor = Floor(task_settings, raw)
    yield floor
    floor.close()


@pytest.fixture
def two_models(our_clock: None, task_settings: TaskSettings, raw: "redis.Redis[str]") -> Iterator[Floor]:
    """One worker, of `sdxl` and `sd-1.5`."""
    floor = Floor(task_settings, raw, "sdxl", "sd-1.5")
    yield floor
    floor.close()
