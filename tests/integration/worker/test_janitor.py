"""The janitor's round: one at a time, and in the order in which the jobs came."""

from collections import Counter

import pytest
import redis
from pydantic import SecretStr
from structlog.testing import capture_logs

from darkroom.storage import ObjectStore
from darkroom.tasks import Darkroom, TaskSettings, claims
from darkroom.tasks.places import Place
from darkroom.tasks.redis_io import BlockingIO
from darkroom.worker.delivery.janitor import Janitor, sweep
from darkroom.worker.delivery.leftovers import sweeper
from tests.integration.hand import RULES, Hand

QUEUE = "queue:sdxl:interactive"


@pytest.fixture
def ids(task_settings: TaskSettings) -> list[str]:
    """Four jobs that wait, the first submitted first."""
    with Darkroom(task_settings) as client:
        requests = ({"prompt": "a cat", "model": "sdxl", "seed": number} for number in range(4))
        return [outcome.job.id for outcome in client.submit_many(requests) if outcome.job]


def order_of_work(io: BlockingIO, raw: "redis.Redis[str]", settings: TaskSettings) -> list[str]:
    """The jobs in the order in which a worker that follows all knocks gets them."""
    order = []
    while raw.rpop(f"{settings.redis_prefix}{QUEUE}"):
        claiming = claims.claim_next([Place("sdxl", "interactive")], "w", 60, RULES, {"sdxl": ()})
        if isinstance(found := io.run(claiming), claims.Claim):
            order.append(found.job_id)
    return order


def test_jobs_whose_messages_were_lost_are_started_in_their_order(
    ids: list[str], task_settings: TaskSettings, raw: "redis.Redis[str]"
) -> None:
    io = BlockingIO(task_settings)
    raw.delete(f"{task_settings.redis_prefix}{QUEUE}")
    assert order_of_work(io, raw, task_settings) == []
    assert io.run(sweep("w", RULES)) == {}
    assert order_of_work(io, raw, task_settings) == ids
    io.close()


def test_jobs_of_a_dead_worker_go_first_in_their_order(
    ids: list[str], task_settings: TaskSettings, raw: "redis.Redis[str]"
) -> None:
    io = BlockingIO(task_settings)
    for job_id in ids[:3]:
        Hand(io).claim(job_id, lease=0)
        raw.rpop(f"{task_settings.redis_prefix}{QUEUE}")
    assert io.run(sweep("w", RULES)) == dict.fromkeys(ids[:3], "queued")
    assert order_of_work(io, raw, task_settings) == ids
    io.close()


def test_one_has_the_duty_at_a_time(ids: list[str], task_settings: TaskSettings, raw: "redis.Redis[str]") -> None:
    io, queue = BlockingIO(task_settings), f"{task_settings.redis_prefix}{QUEUE}"
    for job_id in ids:
        Hand(io).claim(job_id, lease=0)
    raw.delete(queue)
    assert io.run(sweep("one", RULES)) == dict.fromkeys(ids, "queued")
    raw.delete(queue)
    assert io.run(sweep("two", RULES)) is None
    assert raw.llen(queue) == 0
    raw.delete(f"{task_settings.redis_prefix}janitor")  # as when the one's word has run out
    assert io.run(sweep("two", RULES)) == {}
    assert raw.llen(queue) == 2
    io.close()


def test_what_a_dead_worker_stored_goes_with_its_canceled_job(
    ids: list[str], task_settings: TaskSettings, store: ObjectStore, raw: "redis.Redis[str]"
) -> None:
    io = BlockingIO(task_settings)
    named = Hand(io).picture(Hand(io).claim(ids[0])).key
    for key in (named, f"{ids[0]}/1-abc.png", f"{ids[1]}/0-abc.png"):
        store.put(key, b"x", content_type="image/png")
    with Darkroom(task_settings) as client:
        assert client.cancel(ids[0]) == "cancellation_requested"
    raw.zadd(f"{task_settings.redis_prefix}leases", {ids[0]: 1})  # its worker is dead
    janitor = Janitor(io, "w", RULES, sweeper(io, store))
    janitor.round()
    assert [store.exists(key) for key in (named, f"{ids[0]}/1-abc.png", f"{ids[1]}/0-abc.png")] == [True, False, True]
    io.close()


def test_what_disagrees_is_mended_beside_and_counted(
    ids: list[str], task_settings: TaskSettings, raw: "redis.Redis[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("darkroom.worker.delivery.janitor.WALK_SECONDS", 60)  # a whole walk in one round
    io, repairs = BlockingIO(task_settings), Counter[str]()
    raw.zrem(f"{task_settings.redis_prefix}queued:sdxl:interactive", ids[0])
    raw.hset(f"{task_settings.redis_prefix}job:{ids[1]}", "claims", "many")
    with capture_logs() as logs:
        Janitor(io, "w", RULES, lambda _: None, repairs).round()
    assert repairs == {"place_missing": 1, "unreadable": 1}
    assert sorted((line["event"], line["job_id"]) for line in logs) == [
        ("record.repaired", ids[0]), ("record.unreadable", ids[1])]  # fmt: skip
    io.close()


def test_after_an_outage_workers_have_time_to_renew_before_their_jobs_are_given_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("darkroom.worker.delivery.janitor.time.monotonic", lambda: clock[0])
    away = BlockingIO(TaskSettings(redis_url=SecretStr("redis://127.0.0.1:1/0"), redis_timeout=0.2))
    asked: list[float] = []
    monkeypatch.setattr(away, "run", lambda operation: asked.append(clock[0]) or BlockingIO.run(away, operation))
    janitor = Janitor(away, "w", RULES, lambda _: None)
    for moment in (1000.0, 1002.0, 1004.9, 1005.1):
        clock[0] = moment
        janitor.round()
    assert asked == [1000.0, 1005.1]
    away.close()
