"""Word that somebody watches a job: who leaves it, for how long, and who hears of it."""

import json

import pytest
import redis
from pydantic import SecretStr

from darkroom.cli.demo.server import LocalServer
from darkroom.tasks import Darkroom, State, TaskSettings, WaitTimeout, claims, watchlist
from darkroom.tasks.claims import Claim, Hold
from darkroom.tasks.redis_io import BlockingIO
from darkroom.tasks.word import WORD_SECONDS, leave_word
from tests.integration.hand import Hand

from .conftest import Faces, within

CAT = {"prompt": "a cat", "model": "sdxl"}


def step(number: int) -> dict[str, object]:
    return {"image": 0, "step": number, "of": 9, "preview": False}


def beat(hand: Hand, held: Claim, number: int) -> Hold:
    """A renewal that takes along how far the job is."""
    return hand.io.run(claims.renew([held], 60, {held.token: json.dumps(step(number))}))[0]


@pytest.fixture
def watched(task_settings: TaskSettings) -> str:
    """What the keys begin with."""
    return f"{task_settings.redis_prefix}watched:"


def test_word_is_left_for_as_long_as_somebody_watches(
    client: Darkroom, hand: Hand, raw: "redis.Redis[str]", watched: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchlist, "AGAIN_SECONDS", 0.0)
    handle = client.submit(CAT)
    held = hand.claim(handle.id)
    watching = handle.watch()
    assert next(watching).type == "job.queued"
    assert 0 < raw.ttl(watched + handle.id) <= WORD_SECONDS
    assert next(watching).type == "job.started"
    with within(30):
        for number in range(2):
            raw.delete(watched + handle.id)
            while not raw.exists(watched + handle.id):  # by the shared read, at one of its turns
                hand.io.run(claims.progress(held, step(number), None))
                assert next(watching).data == step(number)
    assert hand.succeed(held)


def test_who_waits_leaves_none(client: Darkroom, raw: "redis.Redis[str]", watched: str) -> None:
    handle = client.submit(CAT)
    with pytest.raises(WaitTimeout):
        handle.wait(0.3)
    assert not raw.exists(watched + handle.id)


def test_a_job_that_has_ended_needs_none(client: Darkroom, hand: Hand, raw: "redis.Redis[str]", watched: str) -> None:
    handle = client.submit(CAT)
    hand.io.run(leave_word([handle.id]))
    hand.run(handle.id)
    assert not raw.exists(watched + handle.id)
    assert [event.type for event in handle.watch()][-1] == "job.succeeded"
    assert not raw.exists(watched + handle.id)


def test_the_claim_and_the_renewal_bring_it_back(client: Darkroom, hand: Hand) -> None:
    plain, seen = (client.submit(CAT).id for _ in range(2))
    hand.io.run(leave_word([seen]))
    held = [hand.claim(job_id) for job_id in (plain, seen)]
    assert [one.watched for one in held] == [False, True]
    assert hand.io.run(claims.renew(held, 60)) == [Hold.HELD, Hold.WATCHED]
    client.cancel(seen)
    assert hand.io.run(claims.renew(held, 60)) == [Hold.HELD, Hold.CANCEL]


def test_the_renewal_takes_along_how_far_a_job_is(client: Darkroom, hand: Hand) -> None:
    """It tells of it where somebody watches by now, and of no job that is lost."""
    handle = client.submit(CAT)
    held = hand.claim(handle.id)
    assert beat(hand, held, 3) is Hold.HELD
    progress = handle.get().progress
    assert progress and (progress.step, progress.of) == (3, 9)
    hand.io.run(leave_word([handle.id]))
    assert beat(hand, held, 4) is Hold.WATCHED
    assert hand.io.run(claims.hand_back(held, TaskSettings()))
    assert beat(hand, held, 5) is Hold.LOST
    assert handle.get().progress is None
    hand.run(handle.id)
    assert [event.data["step"] for event in handle.watch() if event.type == "job.progress"] == [4, 1]


def test_a_key_of_another_type_is_no_word(client: Darkroom, hand: Hand, raw: "redis.Redis[str]", watched: str) -> None:
    job_id = client.submit(CAT).id
    held = hand.claim(job_id)
    raw.rpush(watched + job_id, "x")
    assert beat(hand, held, 1) is Hold.HELD


def test_who_may_only_read_watches_without_steps(face: Faces, hand: Hand) -> None:
    """And so does everybody where the server is full."""
    with LocalServer("--maxmemory-policy", "noeviction") as server, redis.Redis(port=server.port) as admin:
        settings = TaskSettings(redis_url=SecretStr(server.url))
        io = BlockingIO(settings)
        own, owner = Hand(io), face(settings)
        own.serve()
        handle = owner.submit(CAT)
        admin.acl_setuser(
            "reader", enabled=True, passwords=["+pw"], keys=["darkroom:*"], categories=["+@read"],
            commands=["+client", "+xread"],
        )  # fmt: skip
        reader = face(TaskSettings(redis_url=SecretStr(server.url.replace("//", "//reader:pw@"))))
        admin.config_set("maxmemory", "1mb")
        for client in (reader, owner):
            assert next(client.watch(handle.id)).type == "job.queued"
        assert not admin.exists(f"darkroom:watched:{handle.id}")
        watching = reader.watch(handle.id)
        assert next(watching).type == "job.queued"
        assert own.succeed(own.claim(handle.id))
        assert [event.type for event in watching] == ["job.started", "job.succeeded"]
        assert handle.get().state is State.SUCCEEDED
        io.close()
