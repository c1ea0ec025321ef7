"""Jobs that need something: the lane that they wait in, and who gets them."""

import json
from collections.abc import Iterator

import pytest
import redis

from darkroom.tasks import Darkroom, QueueBroken, State, TaskSettings
from darkroom.tasks import claims as c
from darkroom.tasks.claims import Claim, Overdue, Refusal
from darkroom.tasks.places import Has, Place, beside
from darkroom.tasks.reconcile import Repair, walk_on
from tests.integration.hand import RULES, Hand
from tests.toys import later_release

GLOW = "sdxl.NEEDS.glow:interactive"
HOUR = 3600 * 1000


class Lanes:
    """A client and a hand of a release that knows more than the first, and a look behind the counter."""

    def __init__(self, client: Darkroom, hand: Hand, raw: "redis.Redis[str]", prefix: str) -> None:
        self.client, self.hand, self.raw, self.prefix = client, hand, raw, prefix

    def submit(self, **fields: object) -> str:
        return self.client.submit({"prompt": "a cat", "model": "sdxl", **fields}).id

    def claim(self, job_id: str, has: Has) -> Claim | Refusal:
        return self.hand.io.run(c.claim(job_id, "w", 60, RULES, has))

    def record(self, job_id: str) -> dict[str, str]:
        return self.raw.hgetall(f"{self.prefix}job:{job_id}")

    def knocks(self, lane: str = GLOW) -> int:
        return self.raw.llen(f"{self.prefix}queue:{lane}")

    def overdue(self) -> list[Overdue]:
        return self.hand.io.run(c.overdue(100))

    def before(self, job_id: str) -> int | None:
        position = self.client.position(job_id)
        return position and position.jobs

    def lanes(self) -> set[str]:
        return self.raw.smembers(f"{self.prefix}lanes")

    def idle_since(self, moment: int) -> None:
        self.raw.hset(f"{self.prefix}marks", f"{GLOW}/idle", moment)


@pytest.fixture
def lanes(task_settings: TaskSettings, hand: Hand, raw: "redis.Redis[str]") -> Iterator[Lanes]:
    with later_release(), Darkroom(task_settings) as client:
        hand.serve()
        yield Lanes(client, hand, raw, task_settings.redis_prefix)


def test_a_job_that_needs_something_waits_in_a_lane_of_its_own(lanes: Lanes) -> None:
    job_id = lanes.submit(glow=0.5)
    record = lanes.record(job_id)
    assert (record["model"], record["lane"], json.loads(record["needs"])) == ("sdxl", GLOW, ["glow"])
    assert lanes.knocks() == 1
    job = lanes.client.get(job_id)
    assert (job.lane, job.needs, job.request.model_dump()["glow"]) == ("interactive", ["glow"], 0.5)


def test_the_record_of_a_job_that_needs_nothing_has_no_new_field(lanes: Lanes) -> None:
    record = lanes.record(lanes.submit(glow=0))
    assert record["lane"] == "sdxl:interactive"
    assert "needs" not in record and "glow" not in json.loads(record["request"])


@pytest.mark.parametrize("has", [{"sdxl": ()}, {"sdxl": ["tags"]}, {"other": ["glow"]}, {"sdxl.NEEDS.glow": ["glow"]}])
def test_a_worker_that_lacks_something_is_given_nothing(lanes: Lanes, has: Has) -> None:
    job_id = lanes.submit(glow=0.5)
    before = lanes.record(job_id)
    assert lanes.claim(job_id, has) == Refusal(job_id, "not_served")
    assert lanes.record(job_id) == before


def test_a_worker_that_has_more_than_is_needed_is_given_the_job(lanes: Lanes) -> None:
    job_id = lanes.submit(glow=0.5, tags=["a"])
    held = lanes.claim(job_id, {"other": (), "sdxl": ["kind:toy", "tags", "glow"]})
    assert isinstance(held, Claim)
    assert Place.of(held.request).queue == "queue:sdxl.NEEDS.glow.NEEDS.tags:interactive"


@pytest.mark.parametrize("needs", ["", "[", "{", "7", '"glow"', None])
def test_needs_that_cannot_be_read_nobody_has(lanes: Lanes, needs: str | None) -> None:
    job_id = lanes.submit(glow=0.5)
    if needs is None:
        lanes.raw.hdel(f"{lanes.prefix}job:{job_id}", "needs")
    else:
        lanes.raw.hset(f"{lanes.prefix}job:{job_id}", "needs", needs)
    assert lanes.claim(job_id, {"sdxl": ["glow"]}) == Refusal(job_id, "unreadable")
    assert Repair(job_id, "unreadable") in lanes.hand.io.run(walk_on(RULES.record_ttl, 10))
    with pytest.raises(QueueBroken, match="cannot be read"):
        lanes.client.get(job_id)


def test_a_job_comes_back_into_its_own_lane(lanes: Lanes) -> None:
    """Handed back, retried, lost with its worker, or with its message."""
    job_id, has = lanes.submit(glow=0.5), {"sdxl": ["glow"]}
    held = lanes.claim(job_id, has)
    assert isinstance(held, Claim)
    lanes.raw.delete(f"{lanes.prefix}queue:{GLOW}")
    assert lanes.hand.io.run(c.hand_back(held, RULES))
    assert lanes.knocks() == 1
    lanes.raw.delete(f"{lanes.prefix}queue:{GLOW}")
    assert lanes.overdue() == []
    assert lanes.knocks() == 1
    assert isinstance(lanes.hand.io.run(c.claim(job_id, "w", 0, RULES, has)), Claim)
    (found,) = lanes.overdue()
    assert (found.lane, found.reason) == (GLOW, "lease_expired")
    assert lanes.hand.io.run(c.requeue(found, RULES)) == "queued"
    lanes.raw.delete(f"{lanes.prefix}queue:{GLOW}")
    lanes.hand.io.run(c.knock_again([Place("sdxl", "interactive", ("glow",)), Place("sdxl", "interactive")]))
    assert lanes.knocks("sdxl:interactive") == 0  # nobody waits there
    assert lanes.knocks() == 1


def test_a_dead_letter_is_tried_again_with_its_needs(lanes: Lanes) -> None:
    job_id = lanes.submit(glow=0.5)
    held = lanes.claim(job_id, {"sdxl": ["glow"]})
    assert isinstance(held, Claim)
    lanes.hand.io.run(c.fail(held, c.JobError(code="x", message="x"), RULES))
    assert lanes.client.get(job_id).state is State.FAILED
    assert lanes.client.retry(job_id).get().needs == ["glow"]


def test_a_worker_finds_the_lanes_that_it_can_read(lanes: Lanes) -> None:
    for fields in ({}, {"glow": 1}, {"glow": 1, "lane": "bulk"}, {"tags": ["a"]}, {"glow": 1, "tags": ["a"]}):
        lanes.submit(**fields)
    lanes.raw.sadd(f"{lanes.prefix}lanes", "other.NEEDS.glow:bulk", b"\xff", "x")
    found = lanes.hand.io.run(beside({"sdxl": ["glow", "kind:toy"]}))
    assert found == [Place("sdxl", "bulk", ("glow",)), Place("sdxl", "interactive", ("glow",))]


def test_lanes_of_a_class_take_turns_and_interactive_ones_go_before_bulk(lanes: Lanes) -> None:
    for _ in range(3):
        lanes.submit()
    last = [lanes.submit(glow=1) for _ in range(5)]
    bulk = lanes.submit(lane="bulk")
    assert [lanes.before(job_id) for job_id in last] == [0, 2, 4, 6, 7]
    assert lanes.before(bulk) == 8


def test_a_lane_with_needs_that_nobody_uses_is_forgotten(lanes: Lanes) -> None:
    job_id = lanes.submit(glow=1)
    held = lanes.claim(job_id, {"sdxl": ["glow"]})
    assert isinstance(held, Claim)
    lanes.overdue()  # its message still lies there
    lanes.idle_since(0)
    lanes.raw.delete(f"{lanes.prefix}queue:{GLOW}")
    lanes.overdue()
    assert GLOW in lanes.lanes()  # its job runs
    assert lanes.hand.succeed(held)
    lanes.idle_since(lanes.hand.now() - HOUR + 60_000)
    lanes.overdue()
    assert GLOW in lanes.lanes()
    lanes.idle_since(lanes.hand.now() - HOUR - 1)
    lanes.overdue()
    assert GLOW not in lanes.lanes()
    assert not [mark for mark in lanes.raw.hkeys(f"{lanes.prefix}marks") if mark.startswith(GLOW)]
    lanes.submit(glow=1)
    assert GLOW in lanes.lanes()


def test_a_lane_with_jobs_is_not_idle(lanes: Lanes) -> None:
    lanes.submit(glow=1)
    lanes.idle_since(0)
    lanes.overdue()
    assert GLOW in lanes.lanes()
    assert lanes.raw.hget(f"{lanes.prefix}marks", f"{GLOW}/idle") is None
