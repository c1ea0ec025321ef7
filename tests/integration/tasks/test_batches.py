"""Batches: submitted into, sealed, watched, canceled, tried again; each under both clients, with a real server."""

import threading
from typing import Any

import pytest
import redis

from darkroom.tasks import (
    Batch,
    BatchCanceled,
    BatchNotFound,
    BatchSealed,
    Darkroom,
    IdempotencyConflict,
    InvalidRequest,
    JobError,
    QuotaExceeded,
    State,
    TaskSettings,
    Txt2Img,
    claims,
)
from darkroom.tasks.batches import operations
from darkroom.tasks.claims import Claim
from darkroom.tasks.reconcile import walk_all
from darkroom.worker.delivery.janitor import Janitor, sweep
from tests.integration.hand import RULES, Hand

from .conftest import Faces

CAT = Txt2Img(prompt="a cat")


def cats(count: int, first: int = 0) -> list[tuple[str, dict[str, Any]]]:
    return [(f"cat-{number}", {"prompt": "a cat", "seed": number}) for number in range(first, first + count)]


def counts(batch: Batch) -> dict[str, int]:
    return {str(state): number for state, number in batch.counts.items() if number}


def fail(hand: Hand, job_id: str) -> None:
    error = JobError(code="out_of_paint", message="no paint")
    assert hand.io.run(claims.fail(hand.claim(job_id), error, RULES))


def work_off(hand: Hand) -> dict[str, str]:
    """What the janitor does for batches."""
    return hand.io.run(operations.work(RULES.record_ttl, 1000))


def test_a_batch_from_its_beginning_to_its_end(client: Darkroom, hand: Hand) -> None:
    batch = client.batch("winter", metadata={"by": "me"})
    first = batch.submit(CAT, "one")
    found = list(batch.submit_many(cats(2)))
    assert [outcome.error for outcome in found] == [None, None]
    begun = batch.get()
    assert (begun.id, begun.name, begun.tenant, begun.state, begun.metadata) == (
        batch.id, "winter", "default", "open", {"by": "me"},
    )  # fmt: skip
    assert (counts(begun), begun.total) == ({"queued": 3}, 3)
    hand.run(first.id)
    held = hand.claim(found[0].job.id)
    assert counts(batch.get()) == {"queued": 1, "running": 1, "succeeded": 1}
    assert [(item.custom_id, item.state) for item in batch.items()] == [
        ("one", "succeeded"), ("cat-0", "running"), ("cat-1", "queued"),
    ]  # fmt: skip
    assert [item.job_id for item in batch.items("queued")] == [found[1].job.id]
    assert [item.custom_id for item in batch.items(after="one")] == ["cat-0", "cat-1"]
    batch.seal()
    assert batch.get().state == "sealed"
    assert hand.succeed(held)
    fail(hand, found[1].job.id)
    ended = batch.get()
    assert (ended.state, counts(ended)) == ("completed", {"succeeded": 2, "failed": 1})
    assert ended.sealed_at is not None
    assert ended.ended_at is not None
    last = list(batch.watch())[-1]
    assert (last.type, last.job_id, last.data["batch"], last.data["counts"]["failed"]) == (
        "batch.completed", "", batch.id, 1,
    )  # fmt: skip
    feed = client.feed(after="0-0")
    heard = [next(feed) for _ in range(10)]
    assert [event.type for event in heard[-2:]] == ["job.failed", "batch.completed"]


def test_the_same_name_is_the_same_batch(client: Darkroom, face: Faces, task_settings: TaskSettings) -> None:
    batch = client.batch("winter", tenant="acme", metadata={"n": 1})
    again = face(task_settings).batch("winter", tenant="acme", metadata={"n": 2})
    assert (again.id, again.get().metadata) == (batch.id, {"n": 1})
    others = {client.batch("winter").id, client.batch().id, client.batch().id}
    assert len(others | {batch.id}) == 4
    assert client.get_batch("winter", tenant="acme").id == client.get_batch(batch.id).id == batch.id


def test_a_repeat_is_the_same_job(client: Darkroom, hand: Hand) -> None:
    batch = client.batch("winter")
    job = batch.submit(CAT, "one")
    again = batch.submit(CAT, "one")
    assert (again.id, again.submitted.repeated) == (job.id, True)
    with pytest.raises(IdempotencyConflict):
        batch.submit({"prompt": "a dog"}, "one")
    outcomes = list(batch.submit_many([("one", CAT), ("one", {"prompt": "a dog"}), ("two", CAT)]))
    assert [getattr(outcome.error, "code", None) for outcome in outcomes] == [None, "idempotency_conflict", None]
    assert (batch.get().total, counts(batch.get())) == (2, {"queued": 2})
    batch.seal()
    hand.run(job.id)
    assert batch.submit(CAT, "one").id == job.id  # what is in it already is no news
    with pytest.raises(BatchSealed):
        batch.submit(CAT, "three")


def test_a_submit_that_was_cut_off_is_repeated(client: Darkroom, face: Faces, task_settings: TaskSettings) -> None:
    """By a program that knows nothing of the first: no line twice, none lost."""
    outcomes = client.batch("winter").submit_many(cats(1000))
    for _ in range(300):
        next(outcomes)
    batch = face(task_settings).batch("winter")
    begun = batch.get().total
    assert 300 <= begun < 1000
    again = list(batch.submit_many(cats(1000)))
    assert sum(outcome.job.repeated for outcome in again if outcome.job) == begun
    assert [item.custom_id for item in batch.items()] == [custom_id for custom_id, _ in cats(1000)]
    assert counts(batch.get()) == {"queued": 1000}


def test_requests_that_are_refused_stop_no_others(client: Darkroom) -> None:
    batch = client.batch("winter", tenant="acme")
    asked = [("a", {"prompt": ""}), ("", CAT), ("b", {"prompt": "x", "tenant": "other"}), ("c", CAT), ("x" * 201, CAT)]
    outcomes = list(batch.submit_many(asked))
    assert [outcome.job is not None for outcome in outcomes] == [False, False, False, True, False]
    assert all(isinstance(outcome.error, InvalidRequest) for outcome in outcomes if not outcome.job)
    assert client.get(outcomes[3].job.id).tenant == "acme"
    with pytest.raises(InvalidRequest, match="custom_id"):
        batch.submit(CAT, "\ud800")
    client.set_limits("acme", max_queued=1)
    (full,) = batch.submit_many([("d", CAT)])
    assert isinstance(full.error, QuotaExceeded)
    assert full.error.retry_after >= 1
    assert batch.get().total == 1


def test_bad_names_and_batches_that_are_not_there(client: Darkroom) -> None:
    for name, tenant in (("", "default"), ("x" * 201, "default"), ("x", "a b")):
        with pytest.raises(InvalidRequest):
            client.batch(name, tenant=tenant)
    with pytest.raises(InvalidRequest, match="metadata"):
        client.batch("x", metadata={"x": float("nan")})
    with pytest.raises(BatchNotFound):
        client.get_batch("nothing")
    with pytest.raises(BatchNotFound):
        client.batches(before="nothing")
    batch = client.batch("x")
    with pytest.raises(InvalidRequest, match="custom_id"):
        list(batch.items(after="nothing"))


def test_lists_are_newest_first_in_pages(client: Darkroom) -> None:
    ids = [client.batch(f"b{number}", tenant="acme" if number % 2 else "default").id for number in range(7)]
    assert [batch.id for batch in client.batches()] == ids[::-1]
    assert [batch.id for batch in client.batches(tenant="acme")] == ids[5::-2]
    first = client.batches(limit=3)
    assert [batch.id for batch in [*first, *client.batches(limit=10, before=first[-1].id)]] == ids[::-1]


def test_an_empty_batch_ends_when_it_is_sealed(client: Darkroom) -> None:
    batch = client.batch("empty")
    batch.seal()
    batch.seal()
    assert batch.get().state == "completed"
    assert [event.type for event in batch.watch()] == ["batch.completed"]


def test_a_job_that_the_end_releases(client: Darkroom, hand: Hand, raw: "redis.Redis[str]") -> None:
    batch = client.batch("grid")
    job = batch.submit(CAT, "one")
    sheet = batch.seal(finally_={"prompt": "the sheet"})
    assert batch.seal(finally_={"prompt": "the sheet"}).id == sheet.id
    assert (sheet.get().state, batch.get().last, batch.get().total) == ("queued", sheet.id, 1)
    assert hand.refused(sheet.id) == "delayed"
    assert walk_repairs(hand) == {}
    hand.run(job.id)
    assert batch.get().state == "completed"
    hand.run(sheet.id)
    assert sheet.get().state == "succeeded"


def test_a_held_job_of_an_empty_batch_is_released_at_once(client: Darkroom, hand: Hand) -> None:
    sheet = client.batch("grid").seal(finally_=CAT)
    hand.run(sheet.id)


def walk_repairs(hand: Hand) -> dict[str, int]:
    return dict(hand.io.run(walk_all(RULES.record_ttl)))


def test_cancel(client: Darkroom, hand: Hand) -> None:
    batch = client.batch("winter")
    found = [outcome.job.id for outcome in batch.submit_many(cats(500)) if outcome.job]
    hand.run(found[0])
    held = hand.claim(found[1])
    assert batch.cancel() == "canceled"
    begun = batch.get()
    assert (begun.state, begun.ended_at, begun.reason) == ("canceled", None, "canceled")
    assert counts(begun) == {"succeeded": 1, "running": 1, "canceled": 498}
    with pytest.raises(BatchCanceled):
        batch.submit(CAT, "late")
    assert hand.io.run(claims.confirm_cancel(held, RULES))
    assert counts(batch.get()) == {"succeeded": 1, "canceled": 499}
    assert batch.get().ended_at is not None
    assert batch.cancel() == "already_finished"
    assert list(batch.watch())[-1].data["state"] == "canceled"


def test_a_cancel_that_was_cut_off_the_janitor_ends(client: Darkroom, hand: Hand) -> None:
    batch = client.batch("winter")
    assert all(outcome.job for outcome in batch.submit_many(cats(500)))
    sheet = operations.cancel(batch.id, RULES.record_ttl)
    hand.io.run(first_call_of(sheet))
    assert counts(batch.get()) == {"queued": 500}
    work_off(hand)
    assert (counts(batch.get()), batch.get().ended_at is not None) == ({"canceled": 500}, True)


def first_call_of(operation: Any) -> Any:
    reply = yield next(operation)
    return reply


def test_cancel_while_it_is_being_submitted(client: Darkroom, task_settings: TaskSettings) -> None:
    batch, sent, canceled = client.batch("winter"), threading.Event(), []

    def cancel() -> None:
        with Darkroom(task_settings) as other:
            assert sent.wait(30)
            canceled.append(other.batch("winter").cancel())

    thread = threading.Thread(target=cancel)
    thread.start()
    taken, refused = 0, 0
    for outcome in batch.submit_many((f"{n}", CAT) for n in range(10**9)):
        taken += outcome.job is not None
        if taken == 300:
            sent.set()
        if outcome.error:
            assert isinstance(outcome.error, BatchCanceled)
            refused += 1
            break
    thread.join()
    assert (canceled, refused) == (["canceled"], 1)
    found = batch.get()
    assert counts(found) == {"canceled": found.total}
    assert found.ended_at is not None


def test_what_failed_is_tried_again(client: Darkroom, hand: Hand) -> None:
    batch = client.batch("winter")
    found = [outcome.job.id for outcome in batch.submit_many(cats(3)) if outcome.job]
    batch.seal()
    fail(hand, found[0])
    fail(hand, found[1])
    hand.run(found[2])
    assert batch.get().state == "completed"
    assert batch.retry() == 2
    again = batch.get()
    assert (again.state, again.ended_at, again.total, counts(again)) == (
        "sealed",
        None,
        3,
        {"queued": 2, "succeeded": 1},
    )
    items = list(batch.items())
    assert [item.custom_id for item in items] == ["cat-0", "cat-1", "cat-2"]
    assert items[0].job_id not in found
    assert client.get(items[0].job_id).seeds == client.get(found[0]).seeds
    assert batch.retry() == 0
    (repeat,) = batch.submit_many(cats(1))
    assert (repeat.job.id, repeat.job.repeated) == (items[0].job_id, True)
    work_off(hand)
    for item in items[:2]:
        hand.run(item.job_id)
    assert (batch.get().state, counts(batch.get())) == ("completed", {"succeeded": 3})
    assert [event.type for event in batch.watch()].count("batch.completed") == 2
    batch.cancel()


def test_a_batch_that_nobody_seals(face: Faces, task_settings: TaskSettings, hand: Hand) -> None:
    hand.serve()
    client = face(task_settings.model_copy(update={"batch_open_secs": 0.0}))
    batch = client.batch("winter")
    job = batch.submit(CAT, "one")
    assert work_off(hand) == {batch.id: "expired"}
    found = batch.get()
    assert (found.state, found.ended_at, counts(found)) == ("expired", None, {"queued": 1})
    assert "not sealed" in (found.reason or "")
    with pytest.raises(BatchSealed):
        batch.submit(CAT, "two")
    hand.run(job.id)  # what is in it is worked off
    assert batch.get().ended_at is not None
    assert list(batch.watch())[-1].data["state"] == "expired"


def test_the_janitor_looks_after_batches(client: Darkroom, hand: Hand, raw: Any, task_settings: TaskSettings) -> None:
    batch = client.batch("winter")
    batch.submit(CAT, "one")
    janitor = Janitor(hand.io, "w", RULES, lambda _: None)
    janitor.round()
    assert batch.get().state == "open"
    raw.zadd(f"{task_settings.redis_prefix}batches_due", {batch.id: 1})
    raw.delete(f"{task_settings.redis_prefix}janitor")  # whose word lasts for a round
    janitor.round()
    assert batch.get().state == "expired"


def test_records_live_as_long_as_their_batch(
    client: Darkroom, hand: Hand, raw: "redis.Redis[str]", task_settings: TaskSettings
) -> None:
    prefix = task_settings.redis_prefix
    batch = client.batch("winter")
    found = [outcome.job.id for outcome in batch.submit_many(cats(450)) if outcome.job]
    hand.run(found[0])
    latest = task_settings.batch_open_secs + task_settings.job_ttl + task_settings.record_ttl
    assert task_settings.job_ttl < raw.ttl(f"{prefix}job:{found[0]}") <= latest
    assert 0 < raw.ttl(f"{prefix}index:succeeded") <= latest
    batch.cancel()
    assert set(work_off(hand).values()) == {"done"}
    lives = {raw.ttl(f"{prefix}{part}:{job_id}") for part in ("job", "events") for job_id in found}
    assert 0 < min(lives) <= max(lives) <= task_settings.record_ttl
    for part in ("batch", "batch_jobs", "batch_order", "batch_events"):
        assert 0 < raw.ttl(f"{prefix}{part}:{batch.id}") <= task_settings.record_ttl
    assert not raw.exists(f"{prefix}batches_due")
    untimed = {key.removeprefix(prefix) for key in raw.scan_iter(f"{prefix}*", count=1000) if raw.ttl(key) < 0}
    lanes = {key for key in untimed if key.startswith(("queue:", "service:"))}
    assert untimed - lanes <= {"clock", "lanes", "models", "offers", "paces"}


def test_a_deleted_job_leaves_its_batch(client: Darkroom, hand: Hand) -> None:
    batch = client.batch("winter")
    one, _ = [outcome.job.id for outcome in batch.submit_many(cats(2)) if outcome.job]
    client.cancel(one)
    client.delete(one)
    assert (batch.get().total, counts(batch.get())) == (1, {"queued": 1})
    assert [item.custom_id for item in batch.items()] == ["cat-1"]


def test_counts_of_jobs_whose_worker_is_lost(client: Darkroom, hand: Hand, raw: "redis.Redis[str]") -> None:
    batch = client.batch("winter")
    found = [outcome.job.id for outcome in batch.submit_many(cats(4)) if outcome.job]
    for job_id in found[:3]:
        hand.claim(job_id, lease=0)  # it is over at once
    hand.io.run(sweep("w", RULES))
    states = [item.state for item in batch.items()]
    assert counts(batch.get()) == {str(state): states.count(state) for state in set(states)} == {"queued": 4}


def test_the_reconciler_counts_again(client: Darkroom, hand: Hand, raw: "redis.Redis[str]", task_settings: Any) -> None:
    batch = client.batch("winter")
    assert all(outcome.job for outcome in batch.submit_many(cats(3)))
    kept = f"{task_settings.redis_prefix}batch:{batch.id}"
    raw.hset(kept, mapping={"n/queued": 1, "n/running": 5, "total": 7})
    assert walk_repairs(hand) == {"count_wrong": 1}
    assert (counts(batch.get()), batch.get().total) == ({"queued": 3}, 3)
    assert walk_repairs(hand) == {}


def test_many_submit_into_one_batch(client: Darkroom, task_settings: TaskSettings) -> None:
    """The same lines, from four programs at once."""

    def submit() -> None:
        with Darkroom(task_settings) as own:
            assert all(outcome.job for outcome in own.batch("winter").submit_many(cats(400)))

    client.batch("winter")
    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = client.get_batch("winter")
    assert (found.total, counts(found)) == (400, {"queued": 400})
    assert len({item.job_id for item in client.batch("winter").items()}) == 400


def test_progress_is_told_once_a_second(client: Darkroom, hand: Hand, raw: Any, task_settings: TaskSettings) -> None:
    batch = client.batch("winter")
    kept = f"{task_settings.redis_prefix}batch:{batch.id}"
    raw.hset(kept, "told", hand.now() + 60_000)
    assert all(outcome.job for outcome in batch.submit_many(cats(20)))
    stream = f"{task_settings.redis_prefix}batch_events:{batch.id}"
    assert raw.xlen(stream) == 0
    raw.hset(kept, "told", hand.now() - 1000)
    batch.submit(CAT, "one")
    (event,) = [fields for _, fields in raw.xrange(stream)]
    assert event["type"] == "batch.progress"
    raw.hset(kept, "told", hand.now() + 60_000)
    batch.submit(CAT, "two")
    assert raw.xlen(stream) == 1


def test_a_job_without_a_batch_is_as_before(
    client: Darkroom, hand: Hand, raw: Any, task_settings: TaskSettings
) -> None:
    job = client.submit(CAT)
    assert not {"batch", "custom_id"} & set(raw.hkeys(f"{task_settings.redis_prefix}job:{job.id}"))
    hand.run(job.id)
    assert isinstance(job.get().state, State)
    assert isinstance(hand.claim(client.submit(CAT).id), Claim)
