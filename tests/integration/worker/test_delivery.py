"""Attempts that end early or late: drain, deadlines, cancels, stores that are away, and what they leave behind."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from darkroom.cli.demo.server import LocalServer
from darkroom.storage.errors import StorageUnavailable
from darkroom.tasks import Darkroom, State, TaskSettings, claims
from darkroom.tasks.redis_io import BlockingIO
from darkroom.worker.delivery import patience
from darkroom.worker.delivery.drain import Drain
from darkroom.worker.delivery.leases import LeaseKeeper
from darkroom.worker.delivery.runner import JobRunner
from tests.integration.hand import RESULT, RULES, Hand

from .conftest import Desk


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_WAIT_SECONDS", 0.01)


def draining(desk: Desk, seconds: float) -> tuple[Desk, Drain]:
    """A desk whose worker can be told to stop."""
    drain = Drain(seconds)
    leases = LeaseKeeper(desk.io, 30, RULES, drain=drain)
    return replace(desk, around=replace(desk.around, leases=leases)), drain


def away(times: int, then: Callable[[str], None] = lambda _: None) -> Callable[[str], None]:
    """A store that does not answer so many times."""
    left = [times]

    def before_put(key: str) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise StorageUnavailable("no answer")
        then(key)

    return before_put


def patient(desk: Desk) -> Desk:
    return replace(desk, around=replace(desk.around, patience=60))


def test_pictures_wait_for_a_store_that_is_away_and_are_not_made_again(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    waiting: list[int] = []
    desk.store.before_put = away(4, lambda _: waiting.append(len(list(tmp_path.glob("darkroom-waiting-*")))))
    job = patient(desk).run()
    assert (job.state, job.claims, job.failures, job.attempts) == (State.SUCCEEDED, 1, 0, [])
    assert waiting == [1, 0]  # the picture had waited there, the manifest not
    assert list(tmp_path.glob("darkroom-waiting-*")) == []


def test_a_job_that_waits_for_the_store_can_be_canceled(desk: Desk) -> None:
    def cancel(_: str) -> None:
        job_id = desk.client.jobs()[0].id
        assert desk.client.cancel(job_id) == "cancellation_requested"
        desk.around.leases.renew()  # as its thread does each second
        raise StorageUnavailable("no answer")

    desk.store.before_put = cancel
    job = patient(desk).run()
    assert job.state is State.CANCELED
    assert [event.type for event in desk.client.watch(job.id)][-1] == "job.canceled"


def test_a_job_that_is_canceled_in_its_last_upload_says_which(desk: Desk) -> None:
    desk.store.before_put = lambda key: desk.client.cancel(key.partition("/")[0]) and None
    job = desk.run()
    last = list(desk.client.watch(job.id))[-1]
    assert (job.state in (State.SUCCEEDED, State.CANCELED), last.type) == (True, f"job.{job.state}")


def test_a_canceled_job_leaves_no_object_that_its_record_does_not_name(desk: Desk) -> None:
    def cancel(key: str) -> None:
        desk.client.cancel(key.partition("/")[0])
        desk.around.leases.renew()

    desk.store.before_put = cancel
    job = desk.run(num_images=3)
    assert job.state is State.CANCELED
    assert {item.key for item in desk.store.list(job.id)} == {image.key for image in job.images}


def test_a_worker_that_stops_hands_back_what_is_not_near_its_end(desk: Desk) -> None:
    stopping, drain = draining(desk, seconds=0.0)
    drain.begin()
    job = stopping.run()
    assert (job.state, job.claims, job.failures, job.attempts) == (State.QUEUED, 1, 0, [])
    assert desk.client.position(job.id) == (0, None)
    JobRunner(desk.around)(job.id)
    assert desk.client.get(job.id).state is State.SUCCEEDED
    assert [event.type for event in desk.client.watch(job.id)].count("job.queued") == 2


def test_a_worker_that_stops_lets_a_job_near_its_end_finish(desk: Desk) -> None:
    stopping, drain = draining(desk, seconds=600)
    desk.store.before_put = lambda _: drain.begin()
    assert stopping.run().state is State.SUCCEEDED


def test_a_second_signal_hands_back_what_is_in_a_long_step(desk: Desk) -> None:
    stopping, drain = draining(desk, seconds=600)
    handed: list[str] = []

    def hurry(key: str) -> None:
        desk.store.before_put = lambda _: None
        drain.begin()
        drain.hurry()
        stopping.around.leases.round()  # while this call still runs
        handed.append(desk.client.get(key.partition("/")[0]).state)

    desk.store.before_put = hurry
    job = stopping.run()
    assert (handed, job.state, job.claims) == ([State.QUEUED], State.QUEUED, 1)
    JobRunner(desk.around)(job.id)
    ended = desk.client.get(job.id)
    assert {item.key for item in desk.store.list(job.id)} == {
        *(image.key for image in ended.images),
        ended.result.manifest if ended.result else "",
    }


def test_a_deadline_stops_a_running_job(desk: Desk, raw: "redis.Redis[str]", task_settings: TaskSettings) -> None:
    def pass_by(key: str) -> None:
        raw.hset(f"{task_settings.redis_prefix}job:{key.partition('/')[0]}", "finish_by", 1)
        desk.around.leases.renew()

    desk.store.before_put = pass_by
    job = desk.run(num_images=2)
    assert (job.state, len(job.images)) == (State.EXPIRED, 1)
    assert desk.client.cancel(job.id) == "already_finished"


def test_the_end_of_a_job_is_recorded_when_the_server_is_back(tmp_path: Path) -> None:
    """It was away for longer than a lease; nobody could take the job from its worker meanwhile."""
    durable = ("--appendonly", "yes", "--appendfsync", "always")
    with LocalServer(*durable, folder=tmp_path) as server:
        settings = TaskSettings(redis_url=SecretStr(server.url))
        io, done = BlockingIO(settings), list[bool]()
        Hand(io).serve()
        keeper = LeaseKeeper(io, 0.05, RULES)
        with Darkroom(settings) as client:
            job_id = client.submit({"prompt": "a cat", "model": "sdxl"}).id
            held = Hand(io).claim(job_id, lease=0.05)
            server.stop()
            write = lambda: claims.succeed(held, RESULT, [], RULES)  # noqa: E731 - as the runner has it
            ending = threading.Thread(target=lambda: done.append(keeper.persist(write)))
            ending.start()
            with LocalServer(*durable, port=server.port, folder=tmp_path):
                ending.join(60)
                assert (done, client.get(job_id).state) == ([True], State.SUCCEEDED)
        io.close()
