"""Jobs that took their workers with them: one last run alone, then the end."""

from collections.abc import Iterator

import pytest
import redis

from darkroom.tasks import Darkroom, State, TaskSettings, deaths
from darkroom.tasks import claims as c
from darkroom.tasks.claims import Claim, Refusal
from darkroom.tasks.places import Place
from darkroom.tasks.suspects import ask_alone, leave_alone
from tests.integration.hand import RULES, Hand

HERE = [Place("sdxl", "interactive")]


class Shop:
    """A client, and workers that are hands."""

    def __init__(self, client: Darkroom, hand: Hand, raw: "redis.Redis[str]", prefix: str) -> None:
        self.client, self.hand, self.raw, self.prefix = client, hand, raw, prefix

    def submit(self, tenant: str = "default") -> str:
        return self.client.submit({"prompt": "a cat", "model": "sdxl", "tenant": tenant}).id

    def claim(self, job_id: str, worker: str) -> Claim | Refusal:
        return self.hand.io.run(c.claim(job_id, worker, 600, RULES))

    def next(self, worker: str) -> Claim | Refusal:
        return self.hand.io.run(c.claim_next(HERE, worker, 600, RULES, {"sdxl": ()}))

    def die(self, job_id: str, worker: str) -> str:
        """The worker takes the job and dies."""
        assert isinstance(self.claim(job_id, worker), Claim)
        host, _, incarnation = worker.split(":")
        return self.hand.io.run(deaths.bury(host, incarnation, RULES))[job_id]

    def suspect(self, tenant: str = "default") -> str:
        job_id = self.submit(tenant)
        self.raw.delete(f"{self.prefix}deaths")  # of before, which would say that it is not to blame
        assert [self.die(job_id, f"h:1:{job_id[-5:]}{number}") for number in range(2)] == ["queued"] * 2
        return job_id

    def ask(self, worker: str) -> str:
        return self.hand.io.run(ask_alone(worker, 60, HERE))


@pytest.fixture
def shop(task_settings: TaskSettings, hand: Hand, raw: "redis.Redis[str]") -> Iterator[Shop]:
    hand.serve()
    with Darkroom(task_settings) as client:
        yield Shop(client, hand, raw, task_settings.redis_prefix)


def test_a_suspect_waits_aside_and_one_worker_may_have_it(shop: Shop) -> None:
    job_id = shop.suspect()
    assert isinstance(shop.next("h:9:z"), Refusal)  # by its turn nobody gets it
    other = shop.submit()
    found = shop.next("h:9:z")
    assert isinstance(found, Claim) and found.job_id == other  # and who waits behind it goes on
    assert isinstance(shop.claim(job_id, "h:2:b"), Refusal)
    assert (shop.ask("h:2:b"), shop.ask("h:3:c")) == (job_id, "")
    assert isinstance(shop.claim(job_id, "h:3:c"), Refusal)
    held = shop.claim(job_id, "h:2:b")
    assert isinstance(held, Claim) and shop.hand.succeed(held)
    assert shop.client.get(job_id).state is State.SUCCEEDED
    assert shop.raw.exists(f"{shop.prefix}suspects") == 0


def test_one_that_dies_alone_is_given_up_at_once(shop: Shop) -> None:
    job_id = shop.suspect()
    assert shop.ask("h:2:b") == job_id
    assert shop.die(job_id, "h:2:b") == "failed"
    job = shop.client.get(job_id)
    assert job.error and job.error.code == "worker_lost" and "last run" in job.error.message
    assert len(job.attempts) == 3
    assert shop.raw.exists(f"{shop.prefix}alone:default") == 0


def test_there_is_no_second_last_run(shop: Shop) -> None:
    job_id = shop.suspect()
    shop.ask("h:2:b")
    held = shop.claim(job_id, "h:2:b")
    assert isinstance(held, Claim) and shop.hand.io.run(c.hand_back(held, RULES))
    shop.hand.io.run(leave_alone("h:2:b", job_id))
    assert shop.ask("h:3:c") == ""
    assert shop.die(job_id, "h:3:c") == "failed"


def test_of_a_tenant_one_at_a_time_and_another_tenants_beside_it(shop: Shop) -> None:
    first, second, other = shop.suspect(), shop.suspect(), shop.suspect("bob")
    assert [shop.ask(worker) for worker in ("h:2:b", "h:3:c", "h:4:d")] == [first, other, ""]
    held = shop.claim(first, "h:2:b")
    assert isinstance(held, Claim) and shop.hand.succeed(held)
    shop.hand.io.run(leave_alone("h:3:c", first))  # not its own
    assert shop.ask("h:4:d") == ""
    shop.hand.io.run(leave_alone("h:2:b", first))
    assert shop.ask("h:4:d") == second


def test_a_suspect_that_is_canceled_or_whose_tenant_is_paused_is_not_asked_for(shop: Shop) -> None:
    canceled = shop.suspect()
    shop.client.cancel(canceled)
    assert shop.client.get(canceled).state is State.CANCELED
    assert shop.ask("h:2:b") == ""
    job_id = shop.suspect()
    shop.raw.sadd(f"{shop.prefix}paused", "tenant:default")
    assert shop.ask("h:2:b") == ""
    shop.raw.delete(f"{shop.prefix}paused")
    assert shop.ask("h:2:b") == job_id
