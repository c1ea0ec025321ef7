"""How long it takes until everything runs again; `make faults` prints the table that docs/10-reliability.md has."""

import os
import signal
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from darkroom.tasks import Darkroom, DarkroomError, Event, JobHandle, State
from darkroom.tasks.catalogue import ModelEntry

from .place import LEASE_SECONDS, Place, Storage, open_place
from .workers import until

REPEATS = 5  # of `make faults`


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "times" in metafunc.fixturenames:
        count = REPEATS if metafunc.config.getoption("--storms", default=0) else 1
        metafunc.parametrize("_again", range(count), ids=lambda number: f"time{number + 1}")


class Times:
    """Seconds that were measured, by what they were measured of; each has a bound that holds on any machine."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str, float], list[float]] = defaultdict(list)

    def took(self, what: str, seconds: float, at_most: float) -> None:
        self._taken[what, at_most].append(seconds)
        assert seconds <= at_most, what

    def table(self) -> str:
        """In Markdown."""
        rows = [
            f"| {what} | {statistics.median(taken):.2f} s | {max(taken):.2f} s | {at_most:g} s |"
            for (what, at_most), taken in self._taken.items()
        ]
        return "\n".join(["| from … until … | median | longest | may take |", "|---|---|---|---|", *rows])


@pytest.fixture(scope="module")
def clock() -> Iterator[Times]:
    times = Times()
    yield times
    print(f"\n{times.table()}")  # noqa: T201 - `make faults` shows it


@pytest.fixture
def times(clock: Times, _again: int) -> Times:
    return clock


@pytest.fixture(scope="module")
def many(entry: ModelEntry, storage: Storage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A place in which there are always two workers; those of them that stop take no time for it."""
    folder = tmp_path_factory.mktemp("many")
    with open_place(entry, storage, folder, DARKROOM_DRAIN_SECONDS="0", DARKROOM_MAX_LOSSES="99") as place:
        yield place


def long_job(place: Place) -> tuple[JobHandle, int]:
    """A job of some seconds that has taken its first step, and its worker's process; another worker has no job."""
    place.ready(2)
    handle = place.submit(num_inference_steps=200, num_images=2)
    next(event for event in handle.watch() if event.type == "job.progress")
    return handle, int(str(handle.get().worker).split(":")[1])


def nth(handle: JobHandle, kind: str, number: int = 1) -> Event:
    """The job's event of this type, waited for."""
    return next(islice((event for event in handle.watch() if event.type == kind), number - 1, None))


def moved(handle: JobHandle) -> float:
    """When another worker began the job, which then is canceled."""
    began = nth(handle, "job.started", 2).time
    handle.cancel()
    assert handle.wait(60).state is State.CANCELED
    return began


@contextmanager
def recovering(place: Place, times: Times, what: str, at_most: float) -> Iterator[None]:
    """From the block's end on, until a new job is done; one that was in the making ends as if nothing had been."""
    handle, _ = long_job(place)
    yield
    began = time.monotonic()
    while True:
        try:
            assert place.submit().wait(at_most).state is State.SUCCEEDED
            break
        except DarkroomError:
            assert time.monotonic() - began < at_most
    times.took(f"{what} … a new job is done", time.monotonic() - began, at_most)
    job = handle.wait(60)
    assert (job.state, job.claims) == (State.SUCCEEDED, 1)


def test_a_worker_is_killed(many: Place, times: Times) -> None:
    handle, pid = long_job(many)
    began = time.time()
    many.workers.kill(pid)
    times.took(
        f"kill -9 (lease: {LEASE_SECONDS:g} s) … its job runs elsewhere", moved(handle) - began, LEASE_SECONDS + 5
    )


def test_a_worker_is_frozen(many: Place, times: Times) -> None:
    handle, pid = long_job(many)
    began = time.time()
    os.kill(pid, signal.SIGSTOP)
    times.took(
        f"SIGSTOP (lease: {LEASE_SECONDS:g} s) … its job runs elsewhere", moved(handle) - began, LEASE_SECONDS + 5
    )
    thawed = time.monotonic()
    os.kill(pid, signal.SIGCONT)
    until(lambda: many.workers.said(pid, "job.lease_lost"), "it hears that the job is another's")
    times.took("SIGCONT … the thawed worker has stopped", time.monotonic() - thawed, 3)
    many.workers.kill(pid)


def test_a_worker_is_stopped(many: Place, times: Times) -> None:
    handle, pid = long_job(many)
    began = time.time()
    os.kill(pid, signal.SIGTERM)
    times.took("SIGTERM, no time to finish … its job runs elsewhere", moved(handle) - began, 2)
    assert many.workers.end_of(pid) == 0
    times.took("SIGTERM, no time to finish … the process is gone", time.time() - began, 10)
    assert (handle.get().failures, handle.get().attempts) == (0, [])


def test_a_job_is_canceled(many: Place, times: Times) -> None:
    handle, _ = long_job(many)
    began = time.time()
    assert handle.cancel() == "cancellation_requested"
    times.took("cancel … a running job that is watched has stopped", nth(handle, "job.canceled").time - began, 3)


def test_a_job_that_nobody_watches_is_canceled(many: Place, times: Times) -> None:
    """Just after a renewal, so that the next one is as far away as can be."""
    many.ready(2)
    handle = many.submit(num_inference_steps=200, num_images=4)
    until(lambda: handle.get().progress is not None, "a renewal has told how far it is")
    began = time.time()
    assert handle.cancel() == "cancellation_requested"
    assert handle.wait(60).state is State.CANCELED
    times.took("cancel … one that nobody watches", nth(handle, "job.canceled").time - began, 3)


def test_a_deadline(many: Place, times: Times) -> None:
    many.ready(2)
    moment = datetime.now(UTC) + timedelta(seconds=1)
    handle = many.submit(num_inference_steps=200, num_images=4, finish_by=moment)
    late = nth(handle, "job.expired").time - moment.timestamp()
    times.took("finish_by … a running job has expired", late, 3)


def test_a_message_is_lost(many: Place, times: Times) -> None:
    many.ready(2)
    for pid in many.workers.living:
        os.kill(pid, signal.SIGSTOP)
    many.server.cut_connections()  # else the server would hand the message to one of those that listen
    handle = many.submit()
    assert many.server.admin.delete(many.key(f"queue:{many.model}:interactive")) == 1
    began = time.time()
    for pid in many.workers.living:
        os.kill(pid, signal.SIGCONT)
    times.took("the only message is lost … its job runs", nth(handle, "job.started").time - began, 10)


def test_redis_is_restarted(many: Place, times: Times) -> None:
    with recovering(many, times, "Redis is back after a restart", 15):
        many.server.down(signal.SIGKILL)
        many.server.up()


def test_redis_hangs(many: Place, times: Times) -> None:
    with recovering(many, times, "Redis answers again after a hang of two leases", 15):
        many.server.freeze()
        with Darkroom(many.settings) as client:
            began = time.monotonic()
            while time.monotonic() - began < 2 * LEASE_SECONDS:
                refused(client, many.model, times)
        many.server.thaw()


def refused(client: Darkroom, model: str, times: Times) -> None:
    began = time.monotonic()
    with pytest.raises(DarkroomError) as error:
        client.submit({"prompt": "a cat", "model": model})
    assert error.value.code == "queue_unavailable"
    times.took("submit to a Redis that hangs … `queue_unavailable`", time.monotonic() - began, 6)


def test_connections_are_cut(many: Place, times: Times) -> None:
    with recovering(many, times, "all connections to Redis are cut", 15):
        many.server.cut_connections()


def test_the_password_is_put_right(many: Place, times: Times) -> None:
    with recovering(many, times, "the right password is back", 15):
        many.server.admin.config_set("requirepass", "rotated")
        many.server.cut_connections()
        until(lambda: '"queue_auth_failed"' in many.workers.logs(), "workers hear of it")
        many.server.admin.config_set("requirepass", "")


def test_storage_is_back(many: Place, times: Times) -> None:
    many.ready(2)

    def heard(what: str) -> int:
        return many.workers.logs().count(f"storage.{what}")

    # Of the time before: a worker that has not yet heard that storage is back says nothing of it being away again.
    until(lambda: heard("away") == heard("back"), "both workers have their storage")
    before = heard("away")
    many.storage.down()
    handle = many.submit()
    until(lambda: heard("away") > before, "its worker waits for storage")
    began = time.time()
    many.storage.up()
    times.took("storage is back … a picture that waited is stored", nth(handle, "job.succeeded").time - began, 10)
    assert handle.get().claims == 1
