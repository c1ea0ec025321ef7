"""What records, indexes, leases and events can disagree on, made by hand in a real server, and mended."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from darkroom.cli.demo.server import LocalServer
from darkroom.tasks import Darkroom, JobError, State, TaskSettings, claims, operations
from darkroom.tasks.claims import Claim
from darkroom.tasks.events import TERMINAL_EVENTS
from darkroom.tasks.reconcile import FIRST, Repair, Walk, step, walk_all, walk_on
from darkroom.tasks.redis_io import BlockingIO
from darkroom.tasks.results import in_order
from tests.integration.hand import RESULT, RULES, TTL, Hand

REQUEST = {"prompt": "a cat", "model": "sdxl", "tenant": "acme"}
LANE = "queued:sdxl:interactive"
OURS = JobError(code="internal_error", message="oh")


class Records:
    """Jobs in every state, and a hand behind the scripts' back."""

    def __init__(self, settings: TaskSettings, raw: "redis.Redis[str]") -> None:
        self.raw, self.prefix = raw, settings.redis_prefix
        self.io, self.client = BlockingIO(settings), Darkroom(settings)
        self.hand = Hand(self.io)
        self.hand.serve()
        self.queued, self.delayed, self.running, self.succeeded, self.failed, self.canceled = (
            self.client.submit({**REQUEST, "idempotency_key": f"k{number}"}).id for number in range(6)
        )
        self.io.run(claims.fail(self.hand.claim(self.delayed), OURS.model_copy(update={"retryable": True}), RULES))
        self.hand.claim(self.running)
        self.hand.run(self.succeeded)
        self.io.run(claims.fail(self.hand.claim(self.failed), OURS, RULES))
        self.client.cancel(self.canceled)

    def key(self, name: str) -> str:
        return self.prefix + name

    def reconcile(self) -> dict[str, int]:
        return dict(self.io.run(walk_all(TTL)))

    def state(self) -> dict[str, Any]:
        """All that is kept but times to live, by key."""
        read: dict[str, Callable[[str], Any]] = {
            "zset": lambda key: self.raw.zrange(key, 0, -1, withscores=True),
            "hash": self.raw.hgetall,
            "set": self.raw.smembers,
            "string": self.raw.get,
            "list": lambda key: self.raw.lrange(key, 0, -1),
            "stream": lambda key: [_without_time(fields) for _, fields in self.raw.xrange(key)],
        }
        found = {}
        for key in self.raw.scan_iter(self.prefix.translate({ord("["): "\\[", ord("*"): "\\*"}) + "*"):
            name = key.removeprefix(self.prefix)
            if name not in ("clock", "walk"):
                found[name] = read[self.raw.type(key)](key)
        return found

    def zrem(self, name: str, job_id: str) -> None:
        assert self.raw.zrem(self.key(name), job_id) == 1

    def zadd(self, name: str, job_id: str) -> None:
        assert self.raw.zadd(self.key(name), {job_id: 1}) == 1

    def close(self) -> None:
        self.io.close()
        self.client.close()


@pytest.fixture
def records(task_settings: TaskSettings, raw: "redis.Redis[str]") -> Iterator[Records]:
    records = Records(task_settings, raw)
    yield records
    records.close()


@pytest.fixture(scope="module")
def shared(redis_server: LocalServer) -> Iterator[Records]:
    """For tests that leave them as they were."""
    settings = TaskSettings(redis_url=SecretStr(redis_server.url), redis_prefix="shared[*]:")
    with redis.Redis(port=redis_server.port, decode_responses=True) as raw:
        records = Records(settings, raw)
        yield records
        records.close()


def _without_time(fields: dict[str, str]) -> dict[str, Any]:
    return {**fields, "time": "", "data": json.loads(fields["data"])}


def test_where_all_agree_nothing_is_touched(records: Records) -> None:
    before = records.state()
    assert records.reconcile() == {}
    assert records.state() == before


Break = Callable[[Records], object]
BROKEN: dict[str, tuple[Break, dict[str, int]]] = {
    "no place in the lane": (lambda r: r.zrem(LANE, r.queued), {"place_missing": 1}),
    "a lane that nobody knows of": (lambda r: r.raw.delete(r.key("lanes")), {"lane_missing": 1}),
    "no deadline": (lambda r: r.raw.delete(r.key("deadlines")), {"deadline_missing": 3}),
    "no index of a state": (lambda r: r.raw.delete(r.key("index:queued")), {"index_missing": 2}),
    "no index of a tenant": (lambda r: r.raw.delete(r.key("index:failed:acme")), {"index_missing": 1}),
    "a place of one that runs": (lambda r: r.zadd(LANE, r.running), {"place_stale": 1}),
    "two places": (lambda r: r.zadd(LANE, r.delayed), {"place_stale": 1}),
    "a place in another lane": (lambda r: r.zadd("queued:sdxl:bulk", r.queued), {"place_stale": 1}),
    "a place of nobody": (lambda r: r.zadd(LANE, "nobody"), {"place_stale": 1}),
    "no turn of its tenant": (lambda r: r.zrem("turn:sdxl:interactive", "acme"), {"place_missing": 1}),
    "a turn of nobody": (lambda r: r.zadd("turn:sdxl:bulk", "nobody"), {"turn_stale": 1}),
    "a turn of a user who waits not": (lambda r: r.zadd("turn:sdxl:interactive:acme", "uann"), {"turn_stale": 1}),
    "a lane in which nobody waits": (lambda r: r.raw.sadd(r.key("waits:acme"), "sdxl:bulk"), {"turn_stale": 1}),
    "a place among another's": (lambda r: r.zadd("wait:sdxl:interactive:other:", r.queued), {"place_stale": 1}),
    "a retry of one that has ended": (lambda r: r.zadd("delayed", r.succeeded), {"retry_stale": 1}),
    "a lease of one that waits": (lambda r: r.zadd("leases", r.queued), {"lease_stale": 1}),
    "a lease of one that has ended": (lambda r: r.zadd("leases", r.succeeded), {"lease_stale": 1}),
    "a deadline of one that has ended": (lambda r: r.zadd("deadlines", r.canceled), {"deadline_stale": 1}),
    "an index of another state": (lambda r: r.zadd("index:running", r.succeeded), {"index_stale": 1}),
    "an index of another tenant": (lambda r: r.zadd("index:queued:other", r.queued), {"index_stale": 1}),
    "an index of records that are gone": (lambda r: r.zadd("index:succeeded", "gone"), {"swept": 1}),
    "a dead letter without a record": (lambda r: r.zadd("dead", "gone"), {"swept": 1}),
    "a dead letter of one that did well": (lambda r: r.zadd("dead", r.succeeded), {"dead_letter_stale": 1}),
    "an end that expires with nobody": (lambda r: r.raw.persist(r.key(f"job:{r.failed}")), {"expiry_missing": 1}),
    "one that waits and would vanish": (lambda r: r.raw.expire(r.key(f"job:{r.queued}"), 99), {"expiry_stale": 1}),
    "a submit that nobody heard of": (
        lambda r: r.raw.delete(r.key(f"events:{r.queued}"), r.key("feed")), {"event_missing": 1}),
}  # fmt: skip


@pytest.mark.parametrize(("broken", "repairs"), BROKEN.values(), ids=BROKEN)
def test_what_disagrees_is_mended_once(broken: Break, repairs: dict[str, int], shared: Records) -> None:
    before = shared.state()
    broken(shared)
    assert shared.reconcile() == repairs
    after = shared.state()
    before.pop("feed"), after.pop("feed")  # what is told again comes later
    assert after == before
    assert shared.reconcile() == {}


def test_a_job_that_waits_for_its_next_try_and_lost_it_is_tried_now(records: Records) -> None:
    records.zrem("delayed", records.delayed)
    assert records.reconcile() == {"place_missing": 1}
    assert records.hand.claim(records.delayed).failures == 1


def test_a_running_job_without_a_lease_is_given_time_for_its_worker_and_then_to_another(records: Records) -> None:
    held = _claim_of(records, records.running)
    records.zrem("leases", records.running)
    assert records.reconcile() == {"lease_missing": 1}
    left = float(records.raw.zscore(records.key("leases"), records.running) or 0) - _now(records)
    assert 20_000 < left <= 30_000
    assert records.hand.succeed(held)  # its worker lives


def _claim_of(records: Records, job_id: str) -> Claim:
    token = records.raw.hget(records.key(f"job:{job_id}"), "token")
    found = records.io.run(claims.claim(job_id, "w", 60, RULES, token=token))
    assert isinstance(found, Claim)
    return found


def _ends(entries: Any) -> Counter[str]:
    return Counter(fields["job_id"] for _, fields in entries if fields["type"] in TERMINAL_EVENTS)


def _now(records: Records) -> float:
    seconds, micros = records.raw.time()
    return seconds * 1000 + micros / 1000


@pytest.mark.parametrize("name", ["succeeded", "failed", "canceled"])
@pytest.mark.parametrize("told", [True, False], ids=["told in the feed", "told nobody"])
def test_an_end_that_was_not_told_is_told_as_it_would_have_been(name: str, told: bool, records: Records) -> None:
    job_id = getattr(records, name)
    stream, feed = records.key(f"events:{job_id}"), records.key("feed")
    last, fields = records.raw.xrevrange(stream, count=1)[0]
    records.raw.xdel(stream, last)
    if not told:
        records.raw.xdel(feed, last)
    assert records.reconcile() == {"ending_missing": 1}
    (_, again), ends = records.raw.xrevrange(stream, count=1)[0], _ends(records.raw.xrange(feed))
    assert _without_time(again) == _without_time(fields) or name == "succeeded"
    assert next(reversed(list(records.client.watch(job_id)))).type == f"job.{name}"
    assert ends[job_id] == 1
    assert records.reconcile() == {}


def test_an_end_that_is_told_again_has_the_same_pictures_files_and_manifest(records: Records) -> None:
    held = records.hand.claim(records.queued)
    named = [records.hand.picture(held, index) for index in (1, 0)]
    places = (("sheet", None), ("latents", 10), ("mask", 2), ("latents", 2), ("lora_1", None))
    files = in_order([records.hand.file(held, *place) for place in places])
    pictures = sorted(named, key=lambda image: image.index)
    assert records.io.run(claims.succeed(held, RESULT, pictures, RULES, files))
    first = list(records.client.watch(records.queued))[-1]
    records.raw.xdel(records.key(f"events:{records.queued}"), first.id)
    records.reconcile()
    again = list(records.client.watch(records.queued))[-1]
    assert (again.type, again.data) == (first.type, first.data)
    places = [(file["role"], file["index"]) for file in again.data["files"]]
    assert places == [("latents", 2), ("mask", 2), ("latents", 10), ("lora_1", None), ("sheet", None)]


def test_keys_without_a_record_get_an_end(records: Records) -> None:
    records.raw.set(records.key(f"watched:{records.running}"), 1)
    records.raw.delete(records.key(f"job:{records.running}"), records.key(f"job:{records.succeeded}"))
    found = records.reconcile()
    # of the running one its lease, deadline, both indexes, events and word; of the other what expires anyway
    parts = {"events_stale": 1, "watched_stale": 1}
    assert found == {"lease_stale": 1, "deadline_stale": 1, "index_stale": 2, **parts, "swept": 4}
    for part in ("events", "watched"):
        assert 0 < records.raw.ttl(records.key(f"{part}:{records.running}")) <= TTL
    assert not records.raw.exists(records.key("idempotency:acme:k2"))
    assert records.reconcile() == {}


def test_a_record_that_cannot_be_read_is_told_once_and_left_alone(records: Records) -> None:
    records.raw.hset(records.key(f"job:{records.running}"), "claims", "many")
    before = records.state()
    assert records.reconcile() == {"unreadable": 1}
    assert records.reconcile() == {}
    after = records.state()
    assert [member for member, _ in after.pop("unreadable")] == [records.running]
    assert after == before
    records.raw.hset(records.key(f"job:{records.running}"), "claims", 1)
    assert records.reconcile() == {}
    assert "unreadable" not in records.state()


def test_keys_of_another_type_and_of_others_are_no_hindrance(records: Records) -> None:
    for name in ("leases", "index:running", f"events:{records.running}", "unreadable", "walk"):
        records.raw.delete(records.key(name))
        records.raw.rpush(records.key(name), "of another type")
    for strange in (b"job:\xff", b"index:\xff:\xfe", b"idempotency:t:\xff", b"job:", b"nothing:of:ours", b"queued:"):
        records.raw.set(records.prefix.encode() + strange, "x")
    records.zrem(LANE, records.queued)
    assert records.reconcile() == {"place_missing": 1, "swept": 1}  # the key of idempotency names no job
    assert records.io.run(walk_on(TTL, 60)) == []
    assert records.raw.get(records.key("walk")) == ""


def test_the_walk_of_all_workers_goes_on_where_one_of_them_left_it(records: Records) -> None:
    assert records.io.run(walk_on(TTL, 0)) == []
    assert records.raw.get(records.key("walk"))
    records.zrem(LANE, records.queued)
    assert records.io.run(walk_on(TTL, 60)) == [Repair(records.queued, "place_missing")]
    records.zrem(LANE, records.queued)
    assert records.io.run(walk_on(TTL, 60)) == []  # it rests
    records.raw.set(records.key("walk"), "[[" * 10_000)
    assert records.io.run(walk_on(TTL, 60)) == [Repair(records.queued, "place_missing")]


def test_a_slice_looks_at_few_keys_however_many_there_are(records: Records) -> None:
    with records.raw.pipeline(transaction=False) as pipe:
        for number in range(3000):
            pipe.zadd(records.key("index:succeeded"), {f"gone-{number}": number})
        pipe.execute()
    walk, sizes = Walk(), []
    while not walk.ended:
        walk, repairs = records.io.run(step(walk, TTL))
        sizes.append(len(repairs))
    assert sum(sizes) == 3000
    assert max(sizes) <= 400  # a slice of a set is a multiple of the server's own making
    assert Walk().sets == list(FIRST)


def test_traffic_is_never_mended(task_settings: TaskSettings) -> None:
    """Producers, workers and canceling owners at full speed, and the reconciler in a loop beside them."""
    io, mended, over = BlockingIO(task_settings), Counter[str](), threading.Event()
    jobs, numbers = 300, count()

    def reconcile() -> None:
        while not over.is_set():
            mended.update(io.run(walk_all(TTL)))

    def live(client: Darkroom) -> None:
        hand = Hand(io)
        while (number := next(numbers)) < jobs:
            job_id = client.submit({"prompt": "a cat", "model": "sdxl", "tenant": f"t{number % 3}"}).id
            if number % 5 == 0:
                client.cancel(job_id)
                continue
            held = hand.claim(job_id)
            if number % 5 == 1:
                io.run(claims.hand_back(held, RULES))
                held = hand.claim(job_id)
            if number % 5 == 2:
                io.run(claims.fail(held, OURS, RULES))
                continue
            hand.picture(held)
            assert hand.succeed(held)
            if number % 5 == 3:
                io.run(operations.forget(job_id))

    raw: redis.Redis[str] = redis.Redis.from_url(task_settings.redis_url.get_secret_value(), decode_responses=True)
    with raw, Darkroom(task_settings) as client, ThreadPoolExecutor(5) as pool:
        Hand(io).serve()
        walking = pool.submit(reconcile)
        try:
            for living in [pool.submit(live, client) for _ in range(4)]:
                living.result()
        finally:
            over.set()
        walking.result()
        ends = _ends(raw.xrange(f"{task_settings.redis_prefix}feed"))
        assert not client.jobs(state=[State.QUEUED, State.RUNNING])
    assert mended == {}
    assert (len(ends), set(ends.values())) == (jobs, {1})
    assert io.run(walk_all(TTL)) == {}
    io.close()
