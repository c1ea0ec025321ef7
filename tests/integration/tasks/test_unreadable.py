"""One record that cannot be read, one key of another type: its own affair, and nobody else's."""

from collections.abc import Callable, Iterator

import pytest
import redis
from pydantic import SecretStr

from darkroom.tasks import (
    Darkroom,
    DarkroomError,
    JobNotFinished,
    QueueAuthFailed,
    QueueBroken,
    State,
    TaskSettings,
    claims,
)
from darkroom.tasks.claims import Hold
from darkroom.tasks.operations import Submitted
from darkroom.tasks.redis_io import BlockingIO
from darkroom.worker.delivery.janitor import sweep
from tests.integration.hand import RULES, Hand

REQUEST = {"prompt": "a cat", "model": "sdxl"}

Bytes = "redis.Redis[bytes]"
FIELDS = {
    "a lane that is no text": {"lane": b"\xff:bulk"},
    "a lane of another form": {"lane": b"sdxl"},
    "a tenant that is no text": {"tenant": b"\xff"},
    "a state of another version": {"state": b"paused"},
    "no number where one should be": {"created": b"yesterday"},
    "claims that are no count": {"claims": b"many"},
    "failures below none": {"failures": b"-5"},
    "losses that are no count": {"lost": b"1.5"},
    "no needs in a lane that has some": {"lane": b"sdxl.NEEDS.glow:bulk"},
    "needs that are no JSON": {"needs": b"xx"},
    "needs that are no list": {"needs": b"{}"},
    "needs that are no texts": {"needs": b"[1]"},
}


class Server:
    """A server under a prefix, seen from behind."""

    def __init__(self, settings: TaskSettings) -> None:
        self.raw: redis.Redis[bytes] = redis.Redis.from_url(settings.redis_url.get_secret_value())
        self.prefix = settings.redis_prefix

    def key(self, name: str) -> str:
        return self.prefix + name

    def members(self, name: str) -> set[str]:
        return {member.decode() for member in self.raw.zrange(self.key(name), 0, -1)}

    def another_type(self, name: str) -> None:
        self.raw.delete(self.key(name))
        self.raw.set(self.key(name), "of another type")

    def dump(self) -> dict[bytes, bytes | None]:
        keys = sorted(self.raw.scan_iter(f"{self.prefix}*"))
        return {key: self.raw.dump(key) for key in keys if key != self.key("clock").encode()}

    def round(self, io: BlockingIO) -> dict[str, str]:
        self.raw.delete(self.key("janitor"))
        return io.run(sweep("w", RULES)) or {}


@pytest.fixture
def server(task_settings: TaskSettings) -> Iterator[Server]:
    server = Server(task_settings)
    yield server
    server.raw.close()


@pytest.fixture
def client(task_settings: TaskSettings, hand: Hand) -> Iterator[Darkroom]:
    """One kind is enough here: what is asked is the same of both."""
    hand.serve()
    with Darkroom(task_settings) as client:
        yield client


Spoil = Callable[[Server, str], object]
SPOILS: dict[str, Spoil] = {
    name: lambda server, job_id, fields=fields: server.raw.hset(server.key(f"job:{job_id}"), mapping=fields)
    for name, fields in FIELDS.items()
}
SPOILS["a key of another type"] = lambda server, job_id: server.another_type(f"job:{job_id}")
SPOILS["a field that lacks"] = lambda server, job_id: server.raw.hdel(server.key(f"job:{job_id}"), "claims")


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_of_two_jobs_the_other_one_is_looked_after(spoil: Spoil, client: Darkroom, hand: Hand, server: Server) -> None:
    spoilt, whole = (client.submit(REQUEST).id for _ in range(2))
    held = [hand.claim(job_id) for job_id in (spoilt, whole)]
    spoil(server, spoilt)
    assert hand.io.run(claims.renew(held, 60))[1] is Hold.HELD
    step = {"image": 0, "step": 1, "of": 4, "preview": False}
    assert [hand.io.run(claims.progress(one, step, None)) for one in held] == [Hold.LOST, Hold.HELD]
    listed = client.jobs()
    assert whole in [job.id for job in listed] and spoilt not in [job.id for job in listed]
    server.raw.zadd(server.key("leases"), {spoilt: 1, whole: 1})  # both workers are dead
    assert server.round(hand.io) == {whole: "queued", spoilt: "unreadable"}
    assert server.round(hand.io) == {}
    assert server.members("unreadable") == {spoilt}
    assert hand.refused(spoilt) == "unreadable"
    for asked in (client.cancel, client.position, client.get):
        with pytest.raises(QueueBroken, match="cannot be read"):
            asked(spoilt)
    hand.run(whole)
    assert client.wait(whole).state is State.SUCCEEDED
    client.delete(spoilt)
    assert (client.jobs().unreadable, server.members("unreadable")) == ([], set())
    assert not [key for key in server.raw.scan_iter(f"{server.prefix}*") if spoilt.encode() in key]


@pytest.mark.parametrize(
    "fields", [{"request": "[" * 20_000}, {"request": '{"prompt": "\\ud800"}'}, {"warnings": "{"}, {"queued": "then"}]
)
def test_what_only_the_worker_cannot_read_ends_with_its_reason(
    fields: dict[str, str], client: Darkroom, hand: Hand, server: Server
) -> None:
    job_id = client.submit(REQUEST).id
    server.raw.hset(server.key(f"job:{job_id}"), mapping=fields)
    assert [hand.refused(job_id), hand.refused(job_id)] == ["unreadable", "failed"]
    assert b"request_unreadable" in (server.raw.hget(server.key(f"job:{job_id}"), "error") or b"")
    assert server.members("dead") == {job_id}


@pytest.mark.parametrize("name", ["deadlines", "delayed", "dead", "deaths", "marks", "lanes", "feed", "clock",
                                  "index:running", "index:queued:default", "queued:sdxl:interactive", "waits:default",
                                  "wait:sdxl:interactive:default:", "turn:sdxl:interactive", "service:sdxl",
                                  "turn:sdxl:interactive:default", "service:sdxl:default", "paces", "paused",
                                  "tenants"])  # fmt: skip
def test_a_key_of_another_type_keeps_no_job_from_its_end(
    name: str, client: Darkroom, hand: Hand, server: Server
) -> None:
    job_id = client.submit(REQUEST).id
    held = hand.claim(job_id)
    server.another_type(name)
    server.raw.zadd(server.key("leases"), {job_id: 1})
    assert server.round(hand.io)[job_id] == "queued"
    assert not hand.succeed(held)
    hand.run(job_id)
    assert client.get(job_id).state is State.SUCCEEDED


def test_a_list_of_another_type_is_named(client: Darkroom, server: Server) -> None:
    server.another_type("index:queued:default")
    with pytest.raises(QueueBroken, match="index:queued:default is no sorted set"):
        client.jobs(tenant="default")
    assert client.jobs() == []


@pytest.mark.parametrize("part", ["events", "steps", "attempts", "preview"])
def test_a_part_of_a_job_of_another_type_keeps_it_not_from_its_end(
    part: str, client: Darkroom, hand: Hand, server: Server
) -> None:
    job_id = client.submit(REQUEST).id
    server.another_type(f"{part}:{job_id}")
    hand.claim(job_id, lease=0)
    assert server.round(hand.io)[job_id] == "queued"
    hand.run(job_id)
    assert server.raw.hget(server.key(f"job:{job_id}"), "state") == b"succeeded"
    assert server.raw.ttl(server.key(f"{part}:{job_id}")) > 0


def test_lanes_that_are_none_of_ours_are_struck_off(client: Darkroom, hand: Hand, server: Server) -> None:
    client.submit(REQUEST)
    server.raw.sadd(server.key("lanes"), b"\xff:bulk", b"no lane")
    server.raw.delete(server.key("queue:sdxl:interactive"))
    assert server.round(hand.io) == {}
    assert server.raw.llen(server.key("queue:sdxl:interactive")) == 1
    assert server.raw.smembers(server.key("lanes")) == {b"sdxl:interactive"}


def test_a_model_whose_workers_are_not_known_is_still_one_that_can_be_asked_for(
    client: Darkroom, hand: Hand, server: Server
) -> None:
    hand.serve("other")
    server.another_type("serving:other")
    assert (client.models().workers["other"], client.models().workers["sdxl"]) == (0, 1)


IN_THE_WAY = ["index:queued", "index:queued:default", "queued:sdxl:interactive", "lanes", "deadlines", "feed",
              "queue:sdxl:interactive", "wait:sdxl:interactive:default:", "turn:sdxl:interactive",
              "turn:sdxl:interactive:default", "waits:default", "index:queued:default:ann",
              "wait:sdxl.NEEDS.user:interactive:default:ann"]  # fmt: skip


@pytest.mark.parametrize("name", IN_THE_WAY)
def test_a_submit_that_cannot_be_written_to_its_end_writes_nothing(name: str, client: Darkroom, server: Server) -> None:
    request = {**REQUEST, "idempotency_key": "k", "user": "ann" if name.endswith(":ann") else None}
    server.another_type(name)
    before = server.dump()
    with pytest.raises(QueueBroken) as caught:
        client.submit(request)
    assert caught.value.job_id
    assert_only_the_lane_is_new(server, before)
    server.raw.delete(server.key(name))
    assert not client.submit(request).submitted.repeated


def assert_only_the_lane_is_new(server: Server, before: dict[bytes, bytes | None]) -> None:
    after = server.dump()
    assert {key: after.get(key) for key in before} == before
    assert {key for key in after if key not in before} <= {server.key("lanes").encode()}


def test_a_user_without_a_right_leaves_no_half_of_a_job(
    client: Darkroom, server: Server, task_settings: TaskSettings
) -> None:
    server.raw.execute_command("ACL", "SETUSER", "half", "on", ">secret", "~*", "+@all", "-xadd")
    before = server.dump()
    url = task_settings.redis_url.get_secret_value().replace("redis://", "redis://half:secret@")
    half = Darkroom(task_settings.model_copy(update={"redis_url": SecretStr(url)}))
    with half, pytest.raises((QueueAuthFailed, QueueBroken)):
        half.submit(REQUEST)
    assert_only_the_lane_is_new(server, before)


def test_of_many_requests_one_that_redis_refuses_keeps_no_other_from_being_taken_in(
    client: Darkroom, server: Server
) -> None:
    server.another_type("queued:sdxl:bulk")
    outcomes = list(client.submit_many({**REQUEST, "lane": lane} for lane in ("interactive", "bulk", "interactive")))
    assert [isinstance(outcome.job, Submitted) for outcome in outcomes] == [True, False, True]
    refused = outcomes[1].error
    assert isinstance(refused, QueueBroken) and isinstance(refused, DarkroomError) and refused.job_id


def test_what_is_only_of_another_version_is_not_deleted_while_it_may_be_worked_on(
    client: Darkroom, hand: Hand, server: Server
) -> None:
    job_id = client.submit(REQUEST).id
    server.raw.hset(server.key(f"job:{job_id}"), "request", '{"kind": "of a newer version"}')
    with pytest.raises(JobNotFinished):
        client.delete(job_id)
    assert hand.refused(job_id) == "unreadable"  # it has failed
    client.delete(job_id)
    assert client.jobs().unreadable == []


def test_events_that_are_none_and_a_state_that_is_none(client: Darkroom, hand: Hand, server: Server) -> None:
    job_id = client.submit(REQUEST).id
    for data, moment in ((b"[" * 20_000, b"1"), (b"\xff", b"1"), (b"{}", b"1e300"), (b"{", b"1")):
        fields = {"type": "job.step", "time": moment, "job_id": job_id, "tenant": "t", "data": data}
        server.raw.xadd(server.key(f"events:{job_id}"), fields)  # type: ignore[arg-type]
    hand.run(job_id)
    assert [event.type for event in client.watch(job_id)][-1] == "job.succeeded"
    server.raw.hset(server.key(f"job:{job_id}"), "state", "paused")
    with pytest.raises(QueueBroken, match="cannot be read"):
        client.wait(job_id, timeout=5)
