"""What becomes of the jobs of a worker process that is known to have ended."""

from collections.abc import Iterator

import pytest
import redis

from darkroom.tasks import Darkroom, State, TaskSettings, deaths
from darkroom.tasks import claims as c
from darkroom.tasks.claims import Claim
from tests.integration.hand import RULES, Hand


class Shop:
    """A client, and workers that are hands."""

    def __init__(self, client: Darkroom, hand: Hand, raw: "redis.Redis[str]", prefix: str) -> None:
        self.client, self.hand, self.raw, self.prefix = client, hand, raw, prefix

    def claimed(self, worker: str) -> Claim:
        job_id = self.client.submit({"prompt": "a cat", "model": "sdxl"}).id
        found = self.hand.io.run(c.claim(job_id, worker, 600, RULES))
        assert isinstance(found, Claim)
        return found

    def bury(self, worker: str) -> dict[str, str]:
        host, _, incarnation = worker.split(":")
        return self.hand.io.run(deaths.bury(host, incarnation, RULES))


@pytest.fixture
def shop(task_settings: TaskSettings, hand: Hand, raw: "redis.Redis[str]") -> Iterator[Shop]:
    hand.serve()
    with Darkroom(task_settings) as client:
        yield Shop(client, hand, raw, task_settings.redis_prefix)


def test_only_what_the_dead_process_runs_is_lost(shop: Shop) -> None:
    runs, done, canceled, given_back, others = (
        shop.claimed(name) for name in ("h:1:a", "h:1:a", "h:1:a", "h:1:a", "h:1:b")
    )
    assert shop.hand.succeed(done)
    shop.client.cancel(canceled.job_id)
    assert shop.hand.io.run(c.hand_back(given_back, RULES))
    assert shop.bury("h:1:a") == {runs.job_id: "queued", canceled.job_id: "canceled"}
    assert shop.client.get(done.job_id).state is State.SUCCEEDED
    assert shop.client.get(others.job_id).state is State.RUNNING
    assert shop.client.get(given_back.job_id).attempts == []
    again = shop.hand.claim(runs.job_id)
    assert not shop.hand.succeed(runs) and again.number == 2
    (lost,) = shop.client.get(runs.job_id).attempts
    assert (lost.worker, lost.error.code) == ("h:1:a", "worker_lost")
    assert shop.raw.zrange(f"{shop.prefix}deaths", 0, -1) == ["h:1:a"]
    told = [fields["data"] for _, fields in shop.raw.xrange(f"{shop.prefix}events:{runs.job_id}")]
    assert '{"reason":"worker_died"}' in told
    assert shop.bury("h:1:a") == {}  # by now another has it


def test_records_are_read_in_slices_and_a_strange_one_spoils_none(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deaths, "SLICE", 2)
    ids = {shop.claimed("h:1:a").job_id for _ in range(5)}
    shop.raw.set(f"{shop.prefix}job:strange", "no record")
    shop.raw.zadd(f"{shop.prefix}leases", {"strange": 1})
    assert shop.bury("h:1:a") == dict.fromkeys(ids, "queued")
    assert shop.raw.zrange(f"{shop.prefix}leases", 0, -1) == ["strange"]
