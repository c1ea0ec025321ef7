"""Dead letters and lists: trying again makes one job, and what cannot be read keeps nobody from the rest."""

from collections.abc import Callable

import pytest
import redis

from darkroom.tasks import (
    Darkroom,
    JobError,
    JobNotFailed,
    JobNotFinished,
    QueueUnavailable,
    State,
    TaskSettings,
    claims,
    operations,
)
from darkroom.tasks.dead import garbage
from darkroom.tasks.reconcile import walk_all
from tests.integration.hand import RULES, Hand

OURS = JobError(code="internal_error", message="oh")
NEWER = '{"kind": "upscale", "prompt": "of a newer version"}'

Submit = Callable[..., str]
Spoil = Callable[[str], None]


@pytest.fixture
def submit(client: Darkroom) -> Submit:
    return lambda **fields: client.submit({"prompt": "a cat", "model": "sdxl", **fields}).id


@pytest.fixture
def fail(hand: Hand) -> Callable[[str], str]:
    """A worker fails at a job; its id."""

    def fail(job_id: str) -> str:
        assert hand.io.run(claims.fail(hand.claim(job_id), OURS, RULES))
        return job_id

    return fail


@pytest.fixture
def spoil(raw: "redis.Redis[str]", task_settings: TaskSettings) -> Spoil:
    """Makes a record one that this version cannot read."""

    def spoil(job_id: str) -> None:
        raw.hset(f"{task_settings.redis_prefix}job:{job_id}", "request", NEWER)

    return spoil


def test_trying_again_twice_makes_one_job(client: Darkroom, submit: Submit, fail: Callable[[str], str]) -> None:
    old = fail(submit(num_images=2, idempotency_key="k"))
    first, again = client.retry(old), client.retry(old.upper())
    assert first.id == again.id != old
    assert (first.submitted.repeated, again.submitted.repeated) == (False, True)
    assert [job.id for job in client.jobs(state="queued")] == [first.id]
    assert client.dead() == []


def test_a_retry_whose_answer_was_lost_makes_one_job(
    client: Darkroom, submit: Submit, fail: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = fail(submit())
    whole = operations._submitted

    def lost(*_: object) -> None:
        raise QueueUnavailable("the answer was lost")

    monkeypatch.setattr(operations, "_submitted", lost)
    with pytest.raises(QueueUnavailable):
        client.retry(old)
    monkeypatch.setattr(operations, "_submitted", whole)
    assert [job.id for job in client.dead()] == [old]  # until it is known that the new one is there
    assert client.retry(old).submitted.repeated
    assert len(client.jobs(state="queued")) == 1
    assert client.dead() == []


def test_where_the_new_job_fails_too_it_is_that_one_which_is_tried_again(
    client: Darkroom, submit: Submit, fail: Callable[[str], str]
) -> None:
    old = fail(submit())
    new = fail(client.retry(old).id)
    assert client.retry(old).id == new
    assert [job.id for job in client.dead()] == [new]
    assert client.retry(new).id not in (old, new)


def test_only_what_failed_is_tried_again(client: Darkroom, submit: Submit, hand: Hand) -> None:
    waiting, canceled, done = submit(), submit(), submit()
    client.cancel(canceled)
    hand.run(done)
    with pytest.raises(JobNotFinished):
        client.retry(waiting)
    for job_id, state in ((canceled, State.CANCELED), (done, State.SUCCEEDED)):
        with pytest.raises(JobNotFailed, match=state) as caught:
            client.retry(job_id)
        assert (caught.value.code, caught.value.exit_code) == ("job_not_failed", 7)
    assert [job.id for job in client.jobs(state="queued")] == [waiting]


def test_a_dead_letter_that_cannot_be_read_keeps_nobody_from_the_others(
    client: Darkroom, submit: Submit, fail: Callable[[str], str], spoil: Spoil
) -> None:
    spoilt, whole = fail(submit()), fail(submit())
    spoil(spoilt)
    found = client.dead()
    assert ([job.id for job in found], found.unreadable) == ([whole], [spoilt])


def test_members_that_are_no_ids_are_taken_off_the_list(
    client: Darkroom, raw: "redis.Redis[str]", task_settings: TaskSettings, hand: Hand
) -> None:
    prefix = task_settings.redis_prefix
    raw.zadd(f"{prefix}dead", {b"\xff": 1, "x": 2})  # type: ignore[dict-item]
    raw.zadd(f"{prefix}index:failed", {b"\xff": 1})  # type: ignore[dict-item]
    assert client.dead() == []
    assert hand.io.run(walk_all(RULES.record_ttl)) == {"swept": 1}
    assert raw.zcard(f"{prefix}dead") == 0


@pytest.mark.parametrize(
    "note", ["", "[]", '{"time":1,"queue":"q"}', '{"time":NaN,"queue":"q","reason":"x","bytes":1,"start":""}']
)
def test_a_note_of_garbage_that_is_garbage_itself_says_so(
    note: str, raw: "redis.Redis[str]", task_settings: TaskSettings, hand: Hand
) -> None:
    raw.lpush(f"{task_settings.redis_prefix}garbage", note)
    (found,) = hand.io.run(garbage(10))
    assert (found.time, found.bytes) == (None, len(note))
    assert "cannot be read" in found.reason


def test_a_page_is_full_where_records_on_it_cannot_be_read(client: Darkroom, submit: Submit, spoil: Spoil) -> None:
    ids = [submit() for _ in range(12)]
    for job_id in ids[4:10]:
        spoil(job_id)
    readable = [*ids[:4], *ids[10:]][::-1]
    first = client.jobs(limit=3)
    assert ([job.id for job in first], first.unreadable) == (readable[:3], ids[4:10][::-1])
    rest = client.jobs(limit=4, before=first[-1].id.upper())
    assert ([job.id for job in rest], rest.unreadable) == (readable[3:], [])


def test_records_that_lack_their_place_do_not_end_the_list(
    client: Darkroom, submit: Submit, raw: "redis.Redis[str]", task_settings: TaskSettings
) -> None:
    ids = [submit() for _ in range(6)]
    for job_id, field in zip(ids, ("id", "created", "state") * 2, strict=True):
        raw.hdel(f"{task_settings.redis_prefix}job:{job_id}", field)
    found = client.jobs(limit=4)
    assert (list(found), sorted(found.unreadable)) == ([], sorted(ids))


def test_an_id_is_found_however_it_is_written(client: Darkroom, submit: Submit, hand: Hand) -> None:
    job_id = submit()
    for written in (job_id.upper(), f"{{{job_id}}}", f"urn:uuid:{job_id}", job_id.replace("-", "")):
        assert client.get(written).id == job_id
        assert client.position(written) == (0, None)
        assert next(client.watch(written)).job_id == job_id
    assert client.cancel(job_id.upper()) == "canceled"
    assert client.wait(job_id.upper(), 5).state is State.CANCELED
    client.delete(job_id.upper())
    assert client.jobs() == []
