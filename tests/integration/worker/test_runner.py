"""One job on real parts: what it leaves, and that whatever goes wrong ends that job alone."""

import hashlib
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from moto.core.authorization import enable_iam_authentication
from pydantic import SecretStr
from structlog.testing import capture_logs

from darkroom.cli.demo.server import LocalServer
from darkroom.storage import ObjectStore, StorageSettings, open_store
from darkroom.storage.errors import StorageDenied
from darkroom.tasks import Job, State, TaskSettings
from darkroom.tasks.marks import adopt
from darkroom.tasks.message import NO_JOB
from darkroom.tasks.streams import first
from darkroom.worker.delivery.image_threads import ImageThreads
from darkroom.worker.delivery.runner import JobRunner
from darkroom.worker.delivery.storekeeper import StoreKeeper
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.manifest import parse_manifest
from darkroom.worker.images.replay import Replay

from .conftest import Desk, open_desk


def test_what_a_job_leaves(desk: Desk) -> None:
    job = desk.run(num_images=2)
    assert (job.state, job.error, len(job.images)) == (State.SUCCEEDED, None, 2)
    assert job.result is not None
    for image in job.images:
        assert hashlib.sha256(image.read()).hexdigest() == image.sha256
        assert image.key == f"{job.id}/{image.index}-{image.sha256[:16]}.png"
    catalogue = {name: generator.model.entry for name, generator in desk.around.generators.items()}
    manifest = parse_manifest(desk.store.get(job.result.manifest), catalogue)
    assert (manifest.job_id, manifest.seeds) == (job.id, job.seeds)
    assert [image.key for image in manifest.images] == [image.key for image in job.images]
    stored = {item.key for item in desk.store.list("")}
    assert stored == {job.result.manifest, *(image.key for image in job.images)}
    assert set(job.result.timings) >= {"queued", "inputs", "prepare", "generate", "encode", "store"}


def test_a_knock_for_no_job(desk: Desk) -> None:
    JobRunner(desk.around)(str(uuid4()))
    assert desk.run().state is State.SUCCEEDED


def test_the_same_knock_twice(desk: Desk) -> None:
    job = desk.run()
    events = list(desk.client.watch(job.id))
    JobRunner(desk.around)(job.id)
    assert desk.client.get(job.id) == job
    assert list(desk.client.watch(job.id)) == events


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), ZeroDivisionError("oh")])
def test_whatever_is_raised_ends_the_job_alone(desk: Desk, error: BaseException) -> None:
    def fall(_: str) -> None:
        raise error

    desk.store.before_put = fall
    with capture_logs() as logs:
        job = desk.run()
    assert (job.state, job.images) == (State.FAILED, [])
    assert job.error is not None
    assert (job.error.code, type(error).__name__ in job.error.message) == ("internal_error", True)
    assert logs[-1]["exc_info"] is error  # the log has where it happened
    desk.store.before_put = lambda _: None
    assert desk.run().state is State.SUCCEEDED


def test_a_host_short_of_memory_may_have_more_later(desk: Desk) -> None:
    def fall(_: str) -> None:
        raise MemoryError

    desk.store.before_put = fall
    job = desk.run()
    assert (job.state, [attempt.error.code for attempt in job.attempts]) == (State.QUEUED, ["out_of_memory"])


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow over 64 kB: the system then refuses in the way of a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def handed_back(job: Job) -> bool:
    """It waits as it did, and nothing was charged to it."""
    return (job.state, job.failures, job.attempts, job.error) == (State.QUEUED, 0, [], None)


def test_disk_full(desk: Desk) -> None:
    with full_disk():
        job = desk.run(width=256, height=256)
        assert handed_back(job)
        assert desk.trouble == "storage_full"
        assert desk.around.keeper.look()  # there is no room for as much, though there is for a small probe
    assert list(desk.store.list("")) == []
    assert desk.client.position(job.id) == (0, None)
    told = [event for event in desk.io.run(first(job.id, None)).events if event.type in ("job.queued", "job.waiting")]
    assert [(event.type, event.data["reason"]) for event in told] == [
        ("job.queued", "submitted"),
        ("job.waiting", "storage_away"),
        ("job.queued", "storage_away"),
    ]
    assert told[1].data["code"] == "storage_full"
    assert desk.around.keeper.look() is None
    JobRunner(desk.around)(job.id)
    assert desk.client.get(job.id).state is State.SUCCEEDED


def changed(desk: Desk, settings: StorageSettings, **change: object) -> Desk:
    keeper = StoreKeeper(desk.io, open_store(settings.model_copy(update=change)))
    return replace(desk, around=replace(desk.around, keeper=keeper))


def test_bucket_missing(desk: Desk, s3_settings: StorageSettings) -> None:
    without = changed(desk, s3_settings, storage_url="s3://not-made-yet/prefix")
    job = without.run()
    assert handed_back(job)
    assert without.trouble == "bucket_missing"
    desk.io.run(adopt(open_store(s3_settings)))  # until now it was the desk's own folder
    JobRunner(changed(desk, s3_settings).around)(job.id)
    assert desk.client.get(job.id).state is State.SUCCEEDED


def test_credentials_wrong(desk: Desk, s3_settings: StorageSettings) -> None:
    wrong = changed(desk, s3_settings, s3_access_key_id="AKIAWRONG")
    with enable_iam_authentication(), capture_logs() as logs:
        assert handed_back(wrong.run())
    assert wrong.trouble == "storage_denied"
    assert "darkroom-secret" not in str(logs)


def test_storage_away(desk: Desk, s3_settings: StorageSettings) -> None:
    away = changed(desk, s3_settings, s3_endpoint_url="http://127.0.0.1:9", s3_attempts=1)
    assert handed_back(away.run())
    assert away.trouble == "storage_unavailable"


def test_no_job_is_taken_while_the_store_cannot_be_used(
    desk: Desk, s3_settings: StorageSettings, raw: "redis.Redis[str]", task_settings: TaskSettings
) -> None:
    """A knock that came all the same goes back into its lane: the jobs may have another worker."""
    away = changed(desk, s3_settings, storage_url="s3://not-made-yet/prefix")
    assert away.around.keeper.look()
    lane = f"{task_settings.redis_prefix}queue:tiny-sdxl:interactive"
    jobs = [desk.submit(), desk.submit()]
    assert jobs[0] in str(raw.rpop(lane))
    JobRunner(away.around)(jobs[0])
    for job in map(desk.client.get, jobs):
        assert (job.state, job.claims) == (State.QUEUED, 0)
    assert [jobs[1] in str(message) for message in raw.lrange(lane, 0, -1)] == [True, False]
    assert NO_JOB in str(raw.rpop(lane))
    JobRunner(desk.around)(NO_JOB)
    assert [desk.client.get(job_id).state for job_id in jobs] == [State.SUCCEEDED, State.QUEUED]


def test_an_input_that_is_gone_is_the_callers(desk: Desk) -> None:
    """The store is there, and says so by its mark."""
    job = desk.run(kind="img2img", image=f"inputs/default/{'a' * 64}.png")
    assert job.error is not None
    assert (job.state, job.error.code, job.error.callers_fault) == (State.FAILED, "input_missing", True)
    assert desk.trouble is None


def test_an_input_in_a_store_that_is_away_is_waited_for(desk: Desk, tmp_path: Path) -> None:
    assert desk.run().state is State.SUCCEEDED
    (tmp_path / "store").rename(tmp_path / "unmounted")
    job = desk.run(kind="img2img", image=f"inputs/default/{'a' * 64}.png")
    assert handed_back(job)
    assert desk.trouble == "storage_away"
    assert not (tmp_path / "store").exists()


def test_one_object_that_is_denied_stops_nobody_else(desk: Desk) -> None:
    def deny(key: str) -> None:
        raise StorageDenied(f"{key} is somebody else's")

    desk.store.before_put = deny
    job = desk.run()
    assert job.error is not None
    assert (job.state, job.error.code, desk.trouble) == (State.FAILED, "storage_denied", None)


def test_a_late_writer_replaces_nothing(desk: Desk, raw: "redis.Redis[str]", task_settings: TaskSettings) -> None:
    """The lease runs out while a picture is on its way into the store; another worker takes the job and ends it."""
    ended: list[Job] = []

    def take_over(key: str) -> None:
        desk.store.before_put = lambda _: None
        job_id = key.partition("/")[0]
        raw.zadd(f"{task_settings.redis_prefix}leases", {job_id: 0})
        held = desk.hand().claim(job_id)
        desk.hand().picture(held)
        assert desk.hand().succeed(held)
        ended.append(desk.client.get(job_id))

    desk.store.before_put = take_over
    assert [desk.run(num_images=2)] == ended
    assert (ended[0].worker, ended[0].claims) == ("w", 2)
    assert [event.type for event in desk.client.watch(ended[0].id)][-1] == "job.succeeded"
    assert list(desk.store.list(ended[0].id)) == []  # what no record names is swept


def side_by_side(desk: Desk, most: int) -> Desk:
    return replace(desk, around=replace(desk.around, images=ImageThreads(most)))


def test_images_side_by_side_are_told_in_their_order_and_can_be_made_again(desk: Desk, generator: Generator) -> None:
    desk = side_by_side(desk, 3)
    job = desk.run(num_images=5, num_inference_steps=4)
    assert (job.state, [image.index for image in job.images]) == (State.SUCCEEDED, [0, 1, 2, 3, 4])
    assert [image.seed for image in job.images] == job.seeds
    told = [event.data["index"] for event in desk.client.watch(job.id) if event.type == "job.image"]
    assert sorted(told) == [0, 1, 2, 3, 4]
    assert job.result is not None and "company" in job.result.timings
    manifest = parse_manifest(desk.store.get(job.result.manifest), {generator.model.entry.name: generator.model.entry})
    assert all(image.calls for image in manifest.images)
    made = list(Replay(manifest, generator, desk.store.get).images())
    assert [(one.bit_equal, one.max_abs) for one in made] == [(True, 0)] * 5


def test_solo_jobs_are_stacked_with_nobody(desk: Desk, generator: Generator) -> None:
    job = side_by_side(desk, 3).run(num_images=3, batching="solo", guidance_scale=5.0)
    assert job.result is not None
    manifest = parse_manifest(desk.store.get(job.result.manifest), {generator.model.entry.name: generator.model.entry})
    assert {image.calls for image in manifest.images} == {"2x2:0"}


def test_a_picture_that_fails_ends_those_beside_it(desk: Desk) -> None:
    def fall(key: str) -> None:
        if "/1-" in key:
            raise ZeroDivisionError("oh")

    desk.store.before_put = fall
    job = side_by_side(desk, 3).run(num_images=16)
    assert job.error is not None and "ZeroDivisionError" in job.error.message
    assert (job.state, len(job.images) < 10) == (State.FAILED, True)


def test_a_cancel_ends_all_that_are_side_by_side(desk: Desk) -> None:
    desk.store.before_put = lambda key: _canceled(desk, key)
    job = side_by_side(desk, 3).run(num_images=16)
    assert (job.state, len(job.images) < 10) == (State.CANCELED, True)


def test_a_cancel_is_heard_between_pictures(desk: Desk) -> None:
    desk.store.before_put = lambda key: _canceled(desk, key)
    job = desk.run(num_images=3)
    assert (job.state, len(job.images)) == (State.CANCELED, 1)


def _canceled(desk: Desk, key: str) -> None:
    desk.client.cancel(key.partition("/")[0])


@pytest.mark.parametrize("ending", [".png", ".json"], ids=["picture", "manifest"])
def test_a_redis_that_is_away_for_a_while_costs_no_job(ending: str, generator: Generator, store: ObjectStore) -> None:
    """It is stuck for longer than a command may take, while a picture or the end should be recorded."""
    with LocalServer() as server:
        settings = TaskSettings(redis_url=SecretStr(server.url), redis_timeout=0.2)
        with open_desk(settings, generator, store) as desk:

            def stick(key: str) -> None:
                if key.endswith(ending):
                    assert server.process
                    server.process.send_signal(signal.SIGSTOP)
                    threading.Timer(0.6, server.process.send_signal, [signal.SIGCONT]).start()

            desk.store.before_put = stick
            job_id = desk.submit()
            JobRunner(desk.around)(job_id)
            job = desk.client.wait(job_id, 10)
            assert (job.state, job.error, len(job.images)) == (State.SUCCEEDED, None, 1)
            assert [event.type for event in desk.client.watch(job_id)].count("job.succeeded") == 1
