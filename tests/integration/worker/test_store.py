"""A worker's store goes away, fills up and comes back, and no job is charged for it: one worker, and its whole day."""

import resource
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from darkroom.cli.doctor.fleet import workers_up
from darkroom.storage import ObjectStore
from darkroom.tasks import JobHandle, State, TaskSettings
from darkroom.tasks.catalogue import ModelEntry
from darkroom.tasks.marks import expecting
from darkroom.tasks.redis_io import BlockingIO

from .processes import Process
from .studio import Studio, open_studio


@pytest.fixture
def studio(task_settings: TaskSettings, store: ObjectStore, entry: ModelEntry, tmp_path: Path) -> Iterator[Studio]:
    """One of the test's own, with room for two jobs at a time."""
    url = (tmp_path / "store").as_uri()
    storage = {"DARKROOM_STORAGE_URL": url, "DARKROOM_CONCURRENCY": "2"}
    with open_studio(task_settings, store, storage, entry, tmp_path) as studio:
        yield studio


@contextmanager
def unmounted(folder: Path) -> Iterator[None]:
    """The place is there and empty meanwhile, as that of a disk that is not mounted."""
    aside = folder.with_name("unmounted")
    folder.rename(aside)
    folder.mkdir()
    yield
    folder.rmdir()  # nothing was written to it
    aside.rename(folder)


@contextmanager
def full(worker: Process) -> Iterator[None]:
    """The system lets the worker grow no file over 64 kB, in the way of a full disk."""
    before = resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (65536, resource.RLIM_INFINITY))
    yield
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, before)


def untouched(handle: JobHandle) -> bool:
    """It succeeded at the first try, and nobody noticed anything."""
    job = handle.wait(60)
    return (job.state, job.claims, job.failures, job.attempts) == (State.SUCCEEDED, 1, 0, [])


def waits_for(settings: TaskSettings) -> str:
    """What the one worker says that it waits for, as the doctor reads it."""
    io = BlockingIO(settings)
    try:
        (worker,) = io.run(workers_up())
    finally:
        io.close()
    return worker.waits_for


def test_a_store_that_goes_away_fills_up_and_comes_back(
    studio: Studio, task_settings: TaskSettings, tmp_path: Path
) -> None:
    """One story, since a worker takes long to start. It starts while the store is away, and ten jobs wait for it."""
    assert expecting(task_settings)(studio.store)
    away = ExitStack()
    away.enter_context(unmounted(tmp_path / "store"))
    with studio.worker(DARKROOM_DRAIN_SECONDS="0") as worker:
        worker.wait_for("storage.away", code="storage_away")
        worker.wait_for("worker.ready")
        studio.wait_for_workers(1)
        jobs = [studio.submit() for _ in range(10)]
        assert "darkroom store adopt" in waits_for(task_settings)
        assert {job.get().claims for job in jobs} == {0}
        away.close()
        worker.wait_for("storage.back")
        assert [untouched(job) for job in jobs] == [True] * 10
        actions = [line["action"] for line in worker.lines]
        assert actions.index("storage.back") < actions.index("job.claimed")
        assert (actions.count("storage.away"), actions.count("storage.back")) == (1, 1)

        waits_for_room(studio, worker)
        tells_a_missing_input_from_a_missing_store(studio, tmp_path / "store", worker)

        with unmounted(tmp_path / "store"):
            last = studio.submit()
            studio.until(last, "job.waiting")
            worker.send(signal.SIGTERM)
            assert worker.end() == 0
            job = last.get()
            assert (job.state, job.failures, job.attempts) == (State.QUEUED, 0, [])


def waits_for_room(studio: Studio, worker: Process) -> None:
    """Pictures that were made wait for room, and are not made again; what is not running is not begun."""
    with full(worker):
        jobs = [studio.submit(width=256, height=256) for _ in range(10)]
        heard = studio.until(jobs[0], "job.waiting")[-1]
        assert heard.data == {"reason": "storage_away", "code": "storage_full"}
        worker.wait_for("storage.away", code="storage_full")
        assert sum(job.get().claims for job in jobs) <= 2  # as many as it has room for
    worker.wait_for("storage.back", count=2)
    assert [untouched(job) for job in jobs] == [True] * 10


def tells_a_missing_input_from_a_missing_store(studio: Studio, folder: Path, worker: Process) -> None:
    picture = BytesIO()
    Image.new("RGB", (64, 64)).save(picture, "PNG")
    key = studio.client.upload(picture.getvalue())
    with unmounted(folder):
        handle = studio.submit(image=key, strength=0.5)
        studio.until(handle, "job.waiting")
    assert untouched(handle)
    studio.store.delete(key)
    job = studio.run(image=key, strength=0.5)
    assert job.error is not None
    assert (job.error.code, job.error.callers_fault) == ("input_missing", True)
