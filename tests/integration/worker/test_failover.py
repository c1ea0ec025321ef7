"""Workers that die or freeze in the middle of a job, beside one that goes on."""

import os
import signal
from collections.abc import Iterator

import psutil
import pytest

from darkroom.tasks import JobHandle, State

from .processes import Process
from .studio import Studio


class Pair:
    """The shared worker, and a second one under a supervisor."""

    def __init__(self, studio: Studio, shared: Process, second: Process) -> None:
        self.studio, self.shared, self.second = studio, shared, second

    @property
    def name(self) -> str:
        """Of the second worker, as it runs now: `host:pid:...`."""
        return str(self.second.of("worker.ready")[-1]["worker"])

    @property
    def pid(self) -> int:
        return int(self.name.split(":")[1])

    def give_the_second(self, **fields: object) -> tuple[JobHandle, JobHandle]:
        """A job that the second worker runs, and one that keeps the first one busy meanwhile."""
        blockers = [self.studio.submit_long(), self.studio.submit_long()]
        runs = {self.studio.started(blocker): blocker for blocker in blockers}
        free = runs.pop(self.name)
        free.cancel()
        free.wait(30)
        handle = self.studio.submit(**fields)
        assert self.studio.started(handle) == self.name
        return handle, next(iter(runs.values()))


@pytest.fixture(scope="module")
def pair(studio: tuple[Studio, Process]) -> Iterator[Pair]:
    with studio[0].worker(supervised=True) as second:
        second.wait_for("worker.ready")
        yield Pair(*studio, second)


def test_a_frozen_worker_changes_nothing_when_it_goes_on(pair: Pair) -> None:
    handle, blocker = pair.give_the_second(num_inference_steps=60)
    os.kill(pair.pid, signal.SIGSTOP)
    blocker.cancel()
    job = handle.wait(60)
    assert (job.state, job.claims, job.failures) == (State.SUCCEEDED, 2, 0)
    assert job.worker != pair.name
    before = pair.studio.everything_of(handle)
    os.kill(pair.pid, signal.SIGCONT)
    pair.second.wait_for("job.lease_lost", job_id=handle.id)
    assert pair.studio.everything_of(handle) == before
    types = [event.type for event in before[1]]
    assert [kind for kind in types if kind != "job.progress"] == [
        "job.queued", "job.started", "job.queued", "job.started", "job.image", "job.succeeded",
    ]  # fmt: skip
    assert len(before[2]) == 2  # a picture and a manifest


def test_a_killed_workers_job_is_ended_by_another_and_the_worker_comes_back(pair: Pair) -> None:
    handle, blocker = pair.give_the_second(num_inference_steps=60, num_images=2)
    dead = pair.name
    os.kill(pair.pid, signal.SIGKILL)
    assert pair.second.wait_for("worker.died")["code"] == -signal.SIGKILL
    blocker.cancel()
    job = handle.wait(60)
    assert (job.state, job.claims, len(job.images)) == (State.SUCCEEDED, 2, 2)
    assert job.worker != dead
    assert len(list(pair.studio.store.list(handle.id))) == 3
    pair.second.wait_for("worker.started", count=2)
    pair.second.wait_for("worker.ready", count=2)
    assert pair.name != dead


def test_a_worker_whose_parent_is_gone_ends_its_job_and_itself(pair: Pair) -> None:
    handle, blocker = pair.give_the_second(num_inference_steps=60)
    child = psutil.Process(pair.pid)
    pair.second.send(signal.SIGKILL)
    child.wait(60)
    assert handle.get().state is State.SUCCEEDED
    assert handle.get().worker == pair.name
    blocker.cancel()
    blocker.wait(30)
