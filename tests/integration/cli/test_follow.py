"""Following a job at the terminal, past a server that is in trouble for a while."""

import signal
from collections.abc import Iterator
from contextlib import closing
from itertools import count

import pytest
from pydantic import SecretStr

from darkroom.cli.demo.server import LocalServer
from darkroom.cli.follow import events
from darkroom.tasks import Darkroom, QueueUnavailable, TaskSettings, Txt2Img
from darkroom.tasks.redis_io import BlockingIO
from tests.integration.hand import Hand

LIFE = ["job.queued", "job.started", "job.progress", "job.image", "job.succeeded"]


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer() as server:
        yield server


@pytest.fixture
def io(server: LocalServer) -> Iterator[BlockingIO]:
    with closing(BlockingIO(TaskSettings(redis_url=SecretStr(server.url), redis_timeout=0.5))) as io:
        Hand(io).serve()
        yield io


@pytest.fixture
def job_id(server: LocalServer, io: BlockingIO) -> str:
    with Darkroom(TaskSettings(redis_url=SecretStr(server.url))) as client:
        return client.submit(Txt2Img(prompt="a cat", model="sdxl")).id


def test_a_server_that_stops_for_a_while_is_waited_for(server: LocalServer, io: BlockingIO, job_id: str) -> None:
    looks = count()

    def check() -> None:
        assert server.process
        match next(looks):
            case 0:
                server.process.send_signal(signal.SIGSTOP)
            case 4:  # each look a second after the one before, or after an error
                server.process.send_signal(signal.SIGCONT)
                Hand(io).run(job_id)

    assert [event.type for event in events(io, job_id, check=check)] == LIFE
    assert next(looks) > 4


def test_but_not_for_ever(server: LocalServer, io: BlockingIO, job_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darkroom.cli.follow.PATIENCE_SECONDS", 0.2)
    following = events(io, job_id)
    assert next(following).type == "job.queued"
    server.stop()
    with pytest.raises(QueueUnavailable):
        next(following)
