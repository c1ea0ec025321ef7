"""A worker process that dies under its parent: its jobs do not wait for their leases."""

import os
import platform
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import structlog
from structlog.testing import LogCapture

from darkroom.cli.demo.server import LocalServer
from darkroom.storage import ObjectStore
from darkroom.tasks import Darkroom, JobHandle, State, TaskSettings
from darkroom.tasks import claims as c
from darkroom.tasks.catalogue import ModelEntry
from darkroom.tasks.claims import Claim
from darkroom.tasks.deaths import bury
from darkroom.tasks.redis_io import BlockingIO
from darkroom.worker.process.deaths import LAST_SECONDS, Deaths
from tests.integration.hand import RULES, Hand

from .processes import PATIENCE, Process
from .studio import Studio, open_studio

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


# A worker that a job of a certain prompt ends, as a crash of a library does.
DEADLY = """
import os, signal, sys
from darkroom.worker.delivery.runner import JobRunner
inner = JobRunner._attempt
def attempt(self, attempt):
    if attempt.claim.request.prompt == "deadly":
        os.kill(os.getpid(), signal.SIGKILL)
    return inner(self, attempt)
JobRunner._attempt = attempt
from darkroom.worker.__main__ import main
sys.exit(main())
"""


def lost_with_its_worker(settings: TaskSettings, room: Studio, handle: JobHandle) -> None:
    """One more worker comes, and dies of the job."""
    incarnation = secrets.token_hex(4)
    with Process(["-c", DEADLY, room.model], {**room.environment, "DARKROOM_INCARNATION": incarnation}) as worker:
        assert worker.end() == -signal.SIGKILL
    with closing(BlockingIO(settings)) as io:
        assert handle.id in io.run(bury(platform.node(), incarnation, settings))


def test_a_job_that_ends_workers_has_a_last_run_alone_and_then_no_other(
    task_settings: TaskSettings, store: ObjectStore, entry: ModelEntry, tmp_path: Path
) -> None:
    storage = {"DARKROOM_STORAGE_URL": (tmp_path / "store").as_uri()}
    with open_studio(task_settings, store, storage, entry, tmp_path) as room, closing(BlockingIO(task_settings)) as io:
        Hand(io).serve(room.model)
        handle = room.submit(prompt="deadly")
        for _ in range(3):  # two beside others, as it may be, and the last one alone
            lost_with_its_worker(task_settings, room, handle)
        job = handle.get()
        assert job.state is State.FAILED and job.error and "last run" in job.error.message
        assert len(job.attempts) == 3


def test_a_suspect_runs_alone_once_its_worker_is_empty(
    task_settings: TaskSettings, store: ObjectStore, entry: ModelEntry, tmp_path: Path
) -> None:
    storage = {"DARKROOM_STORAGE_URL": (tmp_path / "store").as_uri()}
    with (
        open_studio(task_settings, store, storage, entry, tmp_path) as room,
        room.worker(DARKROOM_CONCURRENCY="2") as worker,
        closing(BlockingIO(task_settings)) as io,
    ):
        worker.wait_for("worker.ready")
        long = room.submit_long()
        room.started(long)
        worker.send(signal.SIGSTOP)  # so that the hands have the job
        handle = room.submit()
        for incarnation in ("a1", "b2"):
            assert isinstance(io.run(c.claim(handle.id, f"h:1:{incarnation}", 600, RULES)), Claim)
            assert io.run(bury("h", incarnation, RULES)) == {handle.id: "queued"}
        worker.send(signal.SIGCONT)
        worker.wait_for("job.to_run_alone", job_id=handle.id)
        other = room.submit()
        assert handle.get().state is State.QUEUED  # the long one is there
        long.cancel()
        assert handle.wait(60).state is State.SUCCEEDED
        assert other.wait(60).state is State.SUCCEEDED
        claimed = [line["job_id"] for line in worker.of("job.claimed")]
        assert claimed == [long.id, handle.id, other.id]
