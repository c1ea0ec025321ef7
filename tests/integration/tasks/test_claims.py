"""The worker's side of the record, in every wrong order: only the newest claim writes and publishes."""

import json
from collections.abc import Callable, Iterator

import pytest
import redis

from darkroom.tasks import Darkroom, JobError, QueueBroken, State, TaskSettings, operations
from darkroom.tasks import claims as c
from darkroom.tasks.claims import Claim, Hold, Overdue
from darkroom.tasks.places import Place
from darkroom.tasks.streams import first
from tests.integration.hand import RESULT, RULES, Hand

LANE = "sdxl:interactive"
ERROR = JobError(code="generation_failed", message="boom")
STEP = {"image": 0, "step": 1, "of": 4, "preview": True}


class Shop:
    """A client, a hand, and a look behind the counter."""

    def __init__(self, client: Darkroom, hand: Hand, raw: "redis.Redis[str]", prefix: str) -> None:
        self.client, self.hand, self.raw, self.prefix = client, hand, raw, prefix

    def submit(self, lane: str = "interactive") -> str:
        return self.client.submit({"prompt": "a cat", "model": "sdxl", "lane": lane, "num_images": 2}).id

    def everything(self) -> dict[str, object]:
        """All that Redis holds under the prefix, bit for bit; the fields of a hash change their order by themselves."""
        keys = self.raw.scan_iter(f"{self.prefix}*")
        return {key: self.raw.hgetall(key) if self.raw.type(key) == "hash" else self.raw.dump(key) for key in keys}

    def types(self, job_id: str) -> list[str]:
        return [fields["type"] for _, fields in self.raw.xrange(f"{self.prefix}events:{job_id}")]

    def knocks(self, lane: str = LANE) -> int:
        return self.raw.llen(f"{self.prefix}queue:{lane}")

    def lose_messages(self, lane: str = LANE) -> None:
        self.raw.delete(f"{self.prefix}queue:{lane}")

    def take_knock(self, lane: str = LANE) -> str | None:
        """What a worker does: takes a message, and then the job whose turn it is."""
        assert self.raw.rpop(f"{self.prefix}queue:{lane}")
        found = self.hand.io.run(c.claim_next([Place("sdxl", "interactive")], "w", 60, RULES, {"sdxl": ()}))
        return found.job_id if isinstance(found, Claim) else None

    def overdue(self) -> list[tuple[str, str]]:
        return [(found.job_id, found.reason) for found in self.hand.io.run(c.overdue(100))]

    def requeue(self, job_id: str, reason: str = "lease_expired") -> str:
        return self.hand.io.run(c.requeue(Overdue(job_id, LANE, reason), RULES))


@pytest.fixture
def shop(task_settings: TaskSettings, hand: Hand, raw: "redis.Redis[str]") -> Iterator[Shop]:
    hand.serve()
    with Darkroom(task_settings) as client:
        yield Shop(client, hand, raw, task_settings.redis_prefix)


def writes(shop: Shop, held: Claim) -> dict[str, Callable[[], object]]:
    """All that a worker may write about a job, and what it is told."""
    run = shop.hand.io.run
    return {
        "renew": lambda: run(c.renew([held], 60))[0],
        "progress": lambda: run(c.progress(held, STEP, b"jpeg")),
        "image": lambda: shop.hand.picture(held) and run(c.renew([held], 60))[0],
        "file": lambda: shop.hand.file(held) and run(c.renew([held], 60))[0],
        "succeed": lambda: run(c.succeed(held, RESULT, [], RULES)),
        "fail": lambda: run(c.fail(held, ERROR, RULES)),
        "confirm_cancel": lambda: run(c.confirm_cancel(held, RULES)),
    }


def test_a_claim_has_all_that_a_worker_needs(shop: Shop) -> None:
    job_id = shop.submit()
    held = shop.hand.claim(job_id)
    job = shop.client.get(job_id)
    assert (job.state, job.claims, job.worker) == (State.RUNNING, 1, "w")
    assert held.request == job.request
    assert (held.job_id, held.number, held.warnings) == (job_id, 1, [])
    assert 0 <= held.waited < 60


def test_a_second_knock_is_dropped(shop: Shop) -> None:
    job_id = shop.submit()
    held = shop.hand.claim(job_id)
    before = shop.everything()
    assert shop.hand.refused(job_id) == "running"
    assert shop.everything() == before
    shop.hand.succeed(held)
    assert shop.hand.refused(job_id) == "succeeded"


@pytest.mark.parametrize("job_id", ["00000000-0000-7000-8000-000000000000", "", "feed", "x" * 5000])
def test_a_knock_for_no_job_leaves_nothing(shop: Shop, job_id: str) -> None:
    before = shop.everything()
    assert shop.hand.refused(job_id) == "missing"
    assert shop.everything() == before


def test_a_knock_on_the_door_of_another_model_changes_nothing(shop: Shop) -> None:
    job_id = shop.submit()
    before = shop.everything()
    found = shop.hand.io.run(c.claim(job_id, "w", 60, RULES, {"other": (), "sdx": ()}))
    assert found == c.Refusal(job_id, "not_served")
    assert shop.everything() == before
    assert isinstance(shop.hand.io.run(c.claim(job_id, "w", 60, RULES, {"other": (), "sdxl": ()})), Claim)


def test_a_request_that_no_worker_can_read_is_failed(shop: Shop) -> None:
    """It would be claimed for ever otherwise."""
    job_id, readable = shop.submit(), shop.submit()
    shop.raw.hset(f"{shop.prefix}job:{job_id}", "request", '{"kind": "txt3img"}')
    assert shop.hand.refused(job_id) == "unreadable"
    assert shop.types(job_id)[-1] == "job.failed"
    ((_, last),) = shop.raw.xrevrange(f"{shop.prefix}feed", count=1)
    assert json.loads(last["data"])["error"]["code"] == "request_unreadable"
    assert [job.id for job in shop.client.jobs()] == [readable]
    with pytest.raises(QueueBroken):
        shop.client.get(job_id)


def test_an_expired_lease_is_taken_over(shop: Shop) -> None:
    job_id = shop.submit()
    shop.hand.claim(job_id, lease=0)
    held = shop.hand.claim(job_id)
    assert held.number == 2
    assert shop.types(job_id) == ["job.queued", "job.started", "job.started"]
    assert shop.client.get(job_id).failures == 0


def test_renewing_keeps_a_lease_that_nobody_took(shop: Shop) -> None:
    job_id = shop.submit()
    held = shop.hand.claim(job_id, lease=0)
    assert shop.overdue() == [(job_id, "lease_expired")]
    assert shop.hand.io.run(c.renew([held], 60)) == [Hold.HELD]
    assert shop.overdue() == []
    assert shop.hand.refused(job_id) == "running"


def test_one_beat_renews_all_and_tells_them_apart(shop: Shop) -> None:
    held, canceled, lost = (shop.hand.claim(shop.submit()) for _ in range(3))
    shop.client.cancel(canceled.job_id)
    shop.hand.succeed(lost)
    assert shop.hand.io.run(c.renew([held, canceled, lost], 60)) == [Hold.HELD, Hold.CANCEL, Hold.LOST]


@pytest.mark.parametrize("write", ["renew", "progress", "image", "file", "succeed", "fail", "confirm_cancel"])
@pytest.mark.parametrize("since", ["taken over", "requeued", "done", "failed", "canceled", "deleted"])
def test_a_stale_claim_writes_and_publishes_nothing(shop: Shop, write: str, since: str) -> None:
    job_id = shop.submit()
    stale = shop.hand.claim(job_id, lease=0)
    if since == "requeued":
        assert shop.requeue(job_id) == "queued"
    elif since == "canceled":
        assert shop.client.cancel(job_id) == "canceled"
    else:
        newer = shop.hand.claim(job_id)
        endings = {"done": c.succeed(newer, RESULT, [], RULES), "failed": c.fail(newer, ERROR, RULES)}
        if since in endings:
            assert shop.hand.io.run(endings[since])
        elif since == "deleted":
            shop.hand.succeed(newer)
            shop.hand.io.run(operations.forget(job_id))
    before = shop.everything()
    told = writes(shop, stale)[write]()
    if (since, write) == ("canceled", "confirm_cancel"):
        assert told is True  # it is as the worker would have it
    else:
        assert told in (Hold.LOST, False)
    assert shop.everything() == before


@pytest.mark.parametrize("ending", ["succeed", "fail", "confirm_cancel"])
def test_an_ending_may_be_repeated_and_not_changed(shop: Shop, ending: str) -> None:
    job_id = shop.submit()
    held = shop.hand.claim(job_id)
    assert writes(shop, held)[ending]() is True
    before = shop.everything()
    assert writes(shop, held)[ending]() is True  # its first answer may have been lost
    for other in {"succeed", "fail", "confirm_cancel"} - {ending}:
        assert writes(shop, held)[other]() is False
    assert writes(shop, held)["renew"]() is Hold.LOST
    assert shop.everything() == before


def test_what_each_ending_keeps(shop: Shop) -> None:
    for ending, state in (("succeed", "succeeded"), ("fail", "failed"), ("confirm_cancel", "canceled")):
        job_id = shop.submit()
        writes(shop, shop.hand.claim(job_id))[ending]()
        job = shop.client.get(job_id)
        assert job.state == state
        assert job.ended_at is not None
        assert (job.result == RESULT, job.error == ERROR) == (ending == "succeed", ending == "fail")
        assert shop.types(job_id)[-1] == f"job.{state}"
        assert not shop.raw.zscore(f"{shop.prefix}leases", job_id)


def test_a_picture_is_told_once(shop: Shop) -> None:
    held = shop.hand.claim(shop.submit())
    stored = [shop.hand.picture(held, index) for index in (1, 0, 1)]
    kept = [image.model_dump() for image in shop.client.get(held.job_id).images]
    assert kept == [stored[1].model_dump(), stored[0].model_dump()]
    assert shop.types(held.job_id).count("job.image") == 2


def test_a_file_is_told_once_and_a_later_attempt_replaces_it(shop: Shop) -> None:
    held = shop.hand.claim(shop.submit(), lease=0)
    places = [("sheet", None), ("latents", 1), ("latents", 0), ("mask", 0), ("latents", 1)]
    stored = [shop.hand.file(held, *place) for place in places]
    kept = [file.model_dump() for file in shop.client.get(held.job_id).files]
    assert kept == [stored[place].model_dump() for place in (2, 3, 1, 0)]
    assert shop.types(held.job_id).count("job.file") == 4
    again = stored[0].model_copy(update={"sha256": "b" * 64, "key": f"{held.job_id}/sheet-bbbbbbbbbbbbbbbb.png"})
    assert shop.hand.io.run(c.file(shop.hand.claim(held.job_id), again)) is Hold.HELD
    assert shop.client.get(held.job_id).files[-1].model_dump() == again.model_dump()
    assert [event.data for event in shop.hand.io.run(first(held.job_id, None)).events][-1] == again.model_dump()


def test_every_write_hears_of_the_cancel(shop: Shop) -> None:
    held = shop.hand.claim(shop.submit())
    shop.client.cancel(held.job_id)
    told = writes(shop, held)
    assert [told[write]() for write in ("renew", "progress", "image", "file")] == [Hold.CANCEL] * 4
    assert told["confirm_cancel"]() is True


def test_a_canceled_job_is_not_taken_over(shop: Shop) -> None:
    """Its worker died before it heard: whoever comes next ends it."""
    for whoever in (lambda job_id: shop.hand.refused(job_id), lambda job_id: shop.requeue(job_id)):
        held = shop.hand.claim(shop.submit())
        shop.client.cancel(held.job_id)
        shop.hand.io.run(c.renew([held], 0))
        assert whoever(held.job_id) == "canceled"
        assert shop.types(held.job_id)[-1] == "job.canceled"


def test_the_janitor_puts_an_expired_job_back(shop: Shop) -> None:
    job_id = shop.submit()
    held = shop.hand.claim(job_id, lease=0)
    shop.hand.io.run(c.progress(held, STEP, None))
    shop.lose_messages()
    assert shop.overdue() == [(job_id, "lease_expired")]
    assert shop.requeue(job_id) == "queued"
    job = shop.client.get(job_id)
    assert (job.state, job.worker, job.progress, job.claims, job.failures) == (State.QUEUED, None, None, 1, 0)
    assert shop.types(job_id)[-1] == "job.queued"
    assert (shop.client.position(job_id), shop.knocks(), shop.overdue()) == ((0, None), 1, [])
    assert shop.hand.claim(job_id).number == 2


def test_the_janitor_leaves_others_alone(shop: Shop) -> None:
    running, done, canceled = shop.submit(), shop.submit(), shop.submit()
    shop.hand.claim(running)
    shop.hand.run(done)
    shop.client.cancel(canceled)
    assert shop.overdue() == []
    before = shop.everything()
    assert [shop.requeue(job_id) for job_id in (running, done, canceled, "none")] == ["kept"] * 4
    assert shop.everything() == before


def test_a_lane_whose_messages_were_all_lost_is_knocked_at(shop: Shop) -> None:
    ids, bulk = [shop.submit() for _ in range(3)], shop.submit("bulk")
    assert (shop.overdue(), shop.knocks(), shop.knocks("sdxl:bulk")) == ([], 3, 1)
    shop.lose_messages()
    assert (shop.overdue(), shop.knocks(), shop.knocks("sdxl:bulk")) == ([], 2, 1)
    assert (shop.overdue(), shop.knocks()) == ([], 2)  # one lies there
    assert [shop.take_knock() for _ in ids] == ids
    assert shop.client.get(bulk).state is State.QUEUED
    shop.lose_messages()
    assert (shop.overdue(), shop.knocks()) == ([], 0)  # nobody waits


def test_a_message_that_was_lost_while_others_lie_there_costs_nothing(shop: Shop) -> None:
    lost = shop.submit()
    shop.lose_messages()
    later, last = shop.submit(), shop.submit()
    shop.raw.rpop(f"{shop.prefix}queue:{LANE}")
    assert shop.knocks() == 1
    assert [shop.take_knock() for _ in range(3)] == [lost, later, last]  # whoever takes one knocks again
    shop.lose_messages()
    assert shop.overdue() == []
    assert shop.knocks() == 0
