"""Both clients under one contract, a model on offer, and a worker's hand that runs no model."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from pydantic import SecretStr

from darkroom.cli.server import LocalServer
from darkroom.tasks import Darkroom, JobResult, StoredImage, TaskSettings, claims
from darkroom.tasks.catalogue import ModelOffer, builtin_catalogue
from darkroom.tasks.claims import Claim, Refusal
from darkroom.tasks.redis_io import BlockingIO

from .faces import blocking, event_loop

Faces = Callable[..., Darkroom]
TTL = 600
RESULT = JobResult(manifest="j/manifest.json", timings={"generate": 0.5})


class Hand:
    """What a worker does to records. Leases last a minute unless told otherwise."""

    def __init__(self, io: BlockingIO) -> None:
        self.io = io

    def serve(self, name: str = "sdxl") -> ModelOffer:
        """Says that a worker serves the model."""
        offer = builtin_catalogue()["sdxl"].offer().model_copy(update={"name": name})
        self.io.run(claims.serve("w", {}, 60, [offer]))
        return offer

    def claim(self, job_id: str, lease: float = 60) -> Claim:
        found = self.io.run(claims.claim(job_id, "w", lease, TTL))
        assert isinstance(found, Claim), found
        return found

    def refused(self, job_id: str) -> str:
        found = self.io.run(claims.claim(job_id, "w", 60, TTL))
        assert isinstance(found, Refusal), found
        return found.reason

    def succeed(self, held: Claim) -> bool:
        return self.io.run(claims.succeed(held, RESULT, [], TTL))

    def picture(self, held: Claim, index: int = 0) -> StoredImage:
        """Records a picture that nobody made."""
        stored = StoredImage(
            index=index, key=f"{held.job_id}/{index}-0123456789abcdef.png", seed=index, width=64, height=64,
            sha256="a" * 64, bytes=9, content_type="image/png",
        )  # fmt: skip
        self.io.run(claims.image(held, stored))
        return stored

    def run(self, job_id: str) -> None:
        """A whole job: started, one step, one picture, done."""
        held = self.claim(job_id)
        self.io.run(claims.progress(held, {"image": 0, "step": 1, "of": 1, "preview": False}, None))
        self.picture(held)
        assert self.succeed(held)


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
