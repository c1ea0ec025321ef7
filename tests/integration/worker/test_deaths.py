"""A worker process that dies under its parent: its jobs do not wait for their leases."""

import os
import platform
import signal
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
import structlog
from structlog.testing import LogCapture

from darkroom.cli.demo.server import LocalServer
from darkroom.tasks import Darkroom, State, TaskSettings
from darkroom.tasks import claims as c
from darkroom.tasks.claims import Claim
from darkroom.tasks.redis_io import BlockingIO
from darkroom.worker.process.deaths import LAST_SECONDS, Deaths
from tests.integration.hand import RULES, Hand

from .processes import PATIENCE, Process
from .studio import Studio

LEASE = "600"  # seconds, far longer than any test
NAME = f"{platform.node()}:1:a1"
MARK = 2.0  # seconds from the kill


def kill(worker: str) -> float:
    """When; by the clock of the events' times."""
    os.kill(int(worker.split(":")[1]), signal.SIGKILL)
    return time.time()


def test_a_killed_process_gives_its_jobs_to_others_within_two_seconds(studio: tuple[Studio, Process]) -> None:
    room, _ = studio
    with room.worker(supervised=True, DARKROOM_LEASE_SECONDS=LEASE) as second:
        name = str(second.wait_for("worker.ready")["worker"])
        handles = {room.started(handle): handle for handle in (room.submit_long(), room.submit_long())}
        handle = handles.pop(name)
        (blocker,) = handles.values()
        blocker.cancel()
        blocker.wait(30)  # the shared worker is free
        killed = kill(name)
        events = iter(handle.watch())
        queued = next(event for event in events if event.data.get("reason") == "worker_died")
        started = next(event for event in events if event.type == "job.started")
        assert queued.time - killed <= MARK and started.time - killed <= MARK
        assert started.data["worker"] != name
        handle.cancel()
        (lost,) = handle.wait(30).attempts
        assert (lost.worker, lost.error.code) == (name, "worker_lost")
        second.wait_for("job.lost", job_id=handle.id, outcome="queued")
        second.wait_for("worker.ready", count=2)  # and the next process claims under another name
        assert second.of("worker.ready")[1]["worker"] != name


def test_a_job_that_was_canceled_before_ends_there_and_leaves_nothing(studio: tuple[Studio, Process]) -> None:
    room, _ = studio
    with room.worker(supervised=True, DARKROOM_LEASE_SECONDS=LEASE) as second:
        name = str(second.wait_for("worker.ready")["worker"])
        handles = {room.started(handle): handle for handle in (room.submit_long(), room.submit_long())}
        handle = handles.pop(name)
        os.kill(int(name.split(":")[1]), signal.SIGSTOP)  # it does not hear of the cancel
        handle.cancel()
        room.store.put(f"{handle.id}/0-0123456789abcdef.png", b"of the dead", content_type="image/png")
        kill(name)
        assert handle.wait(30).state is State.CANCELED
        second.wait_for("job.lost", job_id=handle.id, outcome="canceled")
        next(iter(handles.values())).cancel()
        second.terminate()  # the parent has swept before it is gone
        assert list(room.store.list(f"{handle.id}/")) == []


@pytest.fixture
def said() -> Iterator[LogCapture]:
    capture = LogCapture()
    before = structlog.get_config()
    structlog.configure(processors=[capture], cache_logger_on_first_use=False)
    yield capture
    structlog.configure(**before)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalServer]:
    """The one that the settings lead to, whose commands are not waited for."""
    with LocalServer() as server:
        monkeypatch.setenv("DARKROOM_REDIS_URL", server.url)
        monkeypatch.setenv("DARKROOM_REDIS_TIMEOUT", "0.1")
        yield server
        assert server.process
        server.process.send_signal(signal.SIGCONT)


def claimed(server: LocalServer, worker: str) -> str:
    """A job that the worker runs."""
    with closing(BlockingIO(TaskSettings(redis_timeout=5))) as io, Darkroom(TaskSettings(redis_timeout=5)) as client:
        Hand(io).serve()
        job_id = client.submit({"prompt": "a cat", "model": "sdxl"}).id
        assert isinstance(io.run(c.claim(job_id, worker, 600, RULES)), Claim)
        return job_id


def wait_for(said: LogCapture, event: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not any(line["event"] == event for line in said.entries):
        assert time.monotonic() < deadline, said.entries


def test_a_redis_that_is_away_is_waited_for_beside_the_children(server: LocalServer, said: LogCapture) -> None:
    job_id, deaths = claimed(server, NAME), Deaths()
    assert server.process
    server.process.send_signal(signal.SIGSTOP)
    deaths.tell_of("a1")  # and comes back
    wait_for(said, "worker.death_not_told_yet")
    server.process.send_signal(signal.SIGCONT)
    wait_for(said, "job.lost")
    deaths.close()
    with Darkroom(TaskSettings(redis_timeout=5)) as client:
        assert client.get(job_id).state is State.QUEUED


def test_a_parent_that_stops_does_not_wait_for_redis(server: LocalServer, said: LogCapture) -> None:
    claimed(server, NAME)
    assert server.process
    server.process.send_signal(signal.SIGSTOP)
    deaths = Deaths()
    deaths.tell_of("a1")
    wait_for(said, "worker.death_not_told_yet")
    began = time.monotonic()
    deaths.close()
    assert time.monotonic() - began < LAST_SECONDS + 1
    wait_for(said, "worker.death_not_told")


def test_settings_that_are_wrong_by_now_do_not_reach_the_parent(
    said: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DARKROOM_REDIS_URL", "http://nothing")
    deaths = Deaths()
    deaths.tell_of("a1")
    deaths.close()
    wait_for(said, "worker.death_not_told")
