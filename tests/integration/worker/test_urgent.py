"""Interactive jobs on a worker that bulk fills: real processes."""

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image
from pydantic import SecretStr

from darkroom.cli.demo.server import LocalServer
from darkroom.storage import StorageSettings, open_store
from darkroom.tasks import Job, JobHandle, State, TaskSettings
from darkroom.tasks.catalogue import ModelEntry
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.manifest import parse_manifest
from darkroom.worker.images.replay import Replay

from .processes import Process
from .studio import Studio, open_studio

LEASE = 2.0  # seconds; that of a studio's workers


@contextmanager
def opened(server: LocalServer, entry: ModelEntry, folder: Path, name: str) -> Iterator[tuple[Studio, Process]]:
    """A worker with a single place, on which bulk has no share beside interactive images."""
    url = (folder / "objects").as_uri()
    settings = TaskSettings(redis_url=SecretStr(server.url), redis_prefix=f"{name}:")
    store = open_store(StorageSettings(storage_url=url))
    environment = {"DARKROOM_STORAGE_URL": url, "DARKROOM_BULK_SHARE": "0", "DARKROOM_DRAIN_SECONDS": "0"}
    with open_studio(settings, store, environment, entry, folder) as studio, studio.worker() as worker:
        worker.wait_for("worker.ready")
        studio.wait_for_workers(1)
        yield studio, worker


@pytest.fixture(scope="module")
def filled(
    redis_server: LocalServer, entry: ModelEntry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Studio, Process]]:
    with opened(redis_server, entry, tmp_path_factory.mktemp("urgent"), "urgent") as found:
        yield found


@pytest.fixture
def studio(filled: tuple[Studio, Process]) -> Studio:
    return filled[0]


def long_bulk(studio: Studio, **fields: object) -> JobHandle:
    """Of another size than interactive jobs have here: none of its calls can go with one of theirs."""
    return studio.submit_long(lane="bulk", width=32, **fields)


def ended(handle: JobHandle) -> State:
    return handle.wait(60).state


def pixels(job: Job) -> bytes:
    return Image.open(io.BytesIO(job.images[0].read())).tobytes()


def test_an_interactive_job_begins_and_ends_before_the_bulk_that_began_before_it(studio: Studio) -> None:
    bulk = long_bulk(studio)
    studio.started(bulk)
    second = studio.submit(lane="bulk", width=32)
    urgent = [studio.submit(num_images=2) for _ in range(3)]
    assert {ended(handle) for handle in urgent} == {State.SUCCEEDED}
    assert (bulk.get().state, second.get().state) == (State.RUNNING, State.QUEUED)  # the place is not for it
    bulk.cancel()
    assert (ended(bulk), ended(second)) == (State.CANCELED, State.SUCCEEDED)


def test_what_stands_still_keeps_its_lease_and_hears_of_its_end(studio: Studio) -> None:
    """It is no hang, and neither a cancel nor a deadline waits for its next step."""
    bulk = long_bulk(studio)
    studio.started(bulk)
    urgent = studio.submit_long()
    studio.started(urgent)
    time.sleep(2 * LEASE)
    assert (bulk.get().claims, bulk.get().state) == (1, State.RUNNING)
    bulk.cancel()
    assert ended(bulk) is State.CANCELED
    late = long_bulk(studio, finish_by=datetime.now(UTC) + timedelta(seconds=3))
    assert ended(late) is State.EXPIRED
    assert late.get().claims == 1
    assert urgent.get().state is State.RUNNING
    urgent.cancel()
    assert ended(urgent) is State.CANCELED


def test_bulk_that_stood_still_has_the_bits_of_its_replay(studio: Studio, generator: Generator) -> None:
    """And of one made alone, where nothing of it was made in company."""
    asked = {"prompt": "a lake", "lane": "bulk", "seed": 3, "num_inference_steps": 60}
    bulk = [studio.submit(**asked, width=32, num_images=2), studio.submit(**asked, batching="solo")]
    for handle in bulk:
        studio.started(handle)
        while handle.get().state is State.RUNNING:
            assert ended(studio.submit()) is State.SUCCEEDED
    again = studio.run(**asked, batching="solo")
    made = [handle.wait(60) for handle in bulk]
    assert pixels(again) == pixels(made[1])
    for job in made:
        assert job.result
        catalogue = {generator.entry.name: generator.entry}
        manifest = parse_manifest(studio.store.get(job.result.manifest), catalogue)
        replay = Replay(manifest, generator, studio.store.get)
        assert all(image.equal for image in replay.images())
        assert not replay.differences


def test_a_worker_that_stops_hands_both_back(redis_server: LocalServer, entry: ModelEntry, tmp_path: Path) -> None:
    """The one that stands still, and the one in the place for interactive jobs."""
    with opened(redis_server, entry, tmp_path, "stops") as (studio, worker):
        bulk = long_bulk(studio)
        studio.started(bulk)
        urgent = studio.submit_long()
        studio.started(urgent)
        began = time.monotonic()
        assert worker.terminate() == 0
        assert time.monotonic() - began < 10
        assert [handle.get().state for handle in (bulk, urgent)] == [State.QUEUED] * 2
        for handle in (bulk, urgent):
            assert handle.cancel() == "canceled"
            assert [event.data.get("reason") for event in handle.watch() if event.type == "job.queued"][1:] == [
                "drained"
            ]
