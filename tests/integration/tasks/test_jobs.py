"""Reading, listing, cancelling and deleting jobs."""

import asyncio
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis

from darkroom.storage import StorageSettings, open_store
from darkroom.tasks import (
    Darkroom,
    InvalidRequest,
    JobNotFinished,
    JobNotFound,
    State,
    StorageNotConfigured,
    TaskSettings,
    Txt2Img,
)
from tests.integration.hand import RESULT, Hand

from .conftest import Faces

CAT = Txt2Img(prompt="a cat")


def submitted(client: Darkroom, count: int, **fields: str) -> list[str]:
    """Ids, oldest first."""
    requests = ({"prompt": "a cat", "seed": number, **fields} for number in range(count))
    return [outcome.job.id for outcome in client.submit_many(requests) if outcome.job]


@pytest.mark.parametrize("job_id", ["", "x", "../feed", "*", "00000000-0000-7000-8000-000000000000"])
def test_jobs_that_are_not_there(client: Darkroom, job_id: str) -> None:
    for call in (client.get, client.position, client.delete, client.wait):
        with pytest.raises(JobNotFound):
            call(job_id)
    with pytest.raises(JobNotFound):
        next(client.watch(job_id))
    assert client.cancel(job_id) == "not_found"


def test_the_record_of_a_job_that_ran(client: Darkroom, hand: Hand) -> None:
    handle = client.submit(CAT)
    hand.run(handle.id)
    job = handle.get()
    assert (job.state, job.claims, job.failures, job.worker) == (State.SUCCEEDED, 1, 0, "w")
    assert job.started_at is not None
    assert job.ended_at is not None
    assert job.created_at <= job.started_at <= job.ended_at
    assert (job.result, [image.seed for image in job.images]) == (RESULT, [0])


def test_lists_are_newest_first(client: Darkroom, hand: Hand) -> None:
    ids = submitted(client, 5)
    assert [job.id for job in client.jobs()] == ids[::-1]
    hand.run(ids[1])
    client.cancel(ids[2])
    hand.claim(ids[3])
    assert [job.id for job in client.jobs()] == ids[::-1]
    assert [job.id for job in client.jobs(state="succeeded")] == [ids[1]]
    assert [job.id for job in client.jobs(state=[State.CANCELED, State.RUNNING])] == [ids[3], ids[2]]
    assert [job.id for job in client.jobs(state=State.QUEUED)] == [ids[4], ids[0]]
    assert client.jobs(state="failed") == []
    with pytest.raises(InvalidRequest, match="paused"):
        client.jobs(state="paused")


def test_lists_of_one_tenant(client: Darkroom) -> None:
    ours, theirs = submitted(client, 2, tenant="acme"), submitted(client, 3, tenant="other")
    assert [job.id for job in client.jobs(tenant="acme")] == ours[::-1]
    assert [job.id for job in client.jobs(tenant="other", limit=2)] == theirs[:0:-1]
    assert client.jobs(tenant="nobody") == []


def test_pages(client: Darkroom) -> None:
    ids = submitted(client, 25)
    assert _paged(client, 7) == ids[::-1]
    with pytest.raises(JobNotFound):
        client.jobs(before=str(uuid4()))


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": -1}, {"limit": 10**9}, {"tenant": ""}, {"state": "x"}])
def test_pages_that_cannot_be(client: Darkroom, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        client.jobs(**wrong)
    assert [fault.field for fault in caught.value.faults] == list(wrong)


def test_pages_of_jobs_from_one_millisecond(
    client: Darkroom, hand: Hand, raw: "redis.Redis[str]", task_settings: TaskSettings
) -> None:
    ids = submitted(client, 20)
    for job_id in ids[::3]:
        hand.claim(job_id)
    prefix = task_settings.redis_prefix
    for job_id in ids:
        state = raw.hget(f"{prefix}job:{job_id}", "state")
        raw.hset(f"{prefix}job:{job_id}", "created", "1700000000000")
        raw.zadd(f"{prefix}index:{state}", {job_id: 1700000000000})
    assert _paged(client, 3) == sorted(ids, reverse=True)


def _paged(client: Darkroom, size: int) -> list[str]:
    ids: list[str] = []
    while page := client.jobs(limit=size, before=ids[-1] if ids else None):
        assert len(page) <= size
        ids += [job.id for job in page]
    return ids


def test_the_place_in_the_queue(client: Darkroom, hand: Hand) -> None:
    bulk, interactive = submitted(client, 2, lane="bulk"), submitted(client, 3)
    assert [client.position(job_id) for job_id in interactive] == [(0, None), (1, None), (2, None)]
    assert [client.position(job_id) for job_id in bulk] == [(3, None), (4, None)]  # behind the whole other lane
    hand.run(interactive[0])
    client.cancel(interactive[1])
    assert [client.position(job_id) for job_id in interactive] == [None, None, (0, 0.0)]
    places = [position for position in map(client.position, bulk) if position]
    assert [position.jobs for position in places] == [1, 2]
    paces = [position.seconds / position.jobs for position in places if position.seconds]
    assert len(paces) == 2  # as long as the one that ran took, each
    assert paces[0] == pytest.approx(paces[1], abs=0.002)


def test_cancel_in_every_state(client: Darkroom, hand: Hand) -> None:
    queued, running, done = submitted(client, 3)
    assert client.cancel(queued) == "canceled"
    held = hand.claim(running)
    assert [client.cancel(running), client.cancel(running)] == ["cancellation_requested"] * 2
    assert client.get(running).state is State.RUNNING
    assert client.get(running).cancel_requested
    hand.run(done)
    assert [client.cancel(job_id) for job_id in (queued, done)] == ["already_finished"] * 2
    assert client.get(done).state is State.SUCCEEDED
    assert hand.refused(queued) == "canceled"
    assert hand.succeed(held)  # it was done before it heard


def test_a_job_whose_worker_is_gone_is_canceled_at_once(client: Darkroom, hand: Hand) -> None:
    handle = client.submit(CAT)
    hand.claim(handle.id, lease=0)
    assert handle.cancel() == "canceled"
    assert handle.get().state is State.CANCELED


def test_delete_forgets_record_events_and_objects(
    face: Faces, hand: Hand, tmp_path: Path, raw: "redis.Redis[str]", task_settings: TaskSettings
) -> None:
    hand.serve()
    store = open_store(StorageSettings(storage_url=tmp_path.as_uri()))
    client = face(task_settings, storage=store)
    handle, other = client.submit(CAT), client.submit(CAT)
    held = hand.claim(handle.id)
    made = [hand.picture(held), hand.file(held), hand.file(held, "sheet", None)]
    assert hand.succeed(held)
    for key in (*(one.key for one in made), f"{handle.id}/manifest.json", f"{other.id}/0.png"):
        store.put(key, b"data", content_type="image/png")
    client.delete(handle.id)
    with pytest.raises(JobNotFound):
        handle.get()
    assert [item.key for item in store.list("")] == [f"{other.id}/0.png"]
    assert [job.id for job in client.jobs()] == [other.id]
    left = {key for key in raw.scan_iter(f"{task_settings.redis_prefix}*") if handle.id in key}
    assert left == set()


def test_files_are_read_saved_and_linked_as_pictures_are(
    face: Faces, hand: Hand, tmp_path: Path, task_settings: TaskSettings
) -> None:
    hand.serve()
    store = open_store(StorageSettings(storage_url=tmp_path.as_uri()))
    handle = face(task_settings, storage=store).submit(CAT)
    held = hand.claim(handle.id)
    stored = hand.file(held, "lora", None)
    store.put(stored.key, b"data", content_type=stored.content_type)
    (file,) = handle.get().files
    saved = tmp_path / "lora-0123456789abcdef.safetensors"
    assert file.model_dump() == stored.model_dump()
    assert file.read() == asyncio.run(file.aread()) == b"data"
    assert (file.save(tmp_path), saved.read_bytes()) == (saved, b"data")
    assert asyncio.run(file.asave(tmp_path / "mine")).read_bytes() == b"data"
    assert file.url() == asyncio.run(file.aurl()) == (tmp_path / stored.key).as_uri()


def test_a_job_that_made_files_alone_is_not_deleted_without_a_store(
    face: Faces, hand: Hand, task_settings: TaskSettings
) -> None:
    hand.serve()
    client = face(task_settings)
    handle = client.submit(CAT)
    hand.file(hand.claim(handle.id, lease=0))
    assert client.cancel(handle.id) == "canceled"
    with pytest.raises(StorageNotConfigured):
        client.delete(handle.id)
    assert handle.get().state is State.CANCELED


def test_only_jobs_that_have_ended_are_deleted(client: Darkroom, hand: Hand) -> None:
    queued, running = submitted(client, 2)
    hand.claim(running)
    for job_id in (queued, running):
        with pytest.raises(JobNotFinished):
            client.delete(job_id)
        client.get(job_id)


def test_records_expire_and_take_their_places_in_the_index_along(
    client: Darkroom, hand: Hand, raw: "redis.Redis[str]", task_settings: TaskSettings
) -> None:
    prefix = task_settings.redis_prefix
    old = submitted(client, 6)
    for job_id in old[:5]:
        hand.run(job_id)
        assert 0 < raw.ttl(f"{prefix}job:{job_id}") <= 600
        assert 0 < raw.ttl(f"{prefix}events:{job_id}") <= 600
    assert raw.ttl(f"{prefix}job:{old[5]}") == -1  # one that waits never expires
    for job_id in old[:5]:
        raw.expireat(f"{prefix}job:{job_id}", int(time.time()) - 1)
    assert [job.id for job in client.jobs()] == [old[5]]
    for job_id in submitted(client, 3):
        hand.run(job_id)
    assert raw.zcard(f"{prefix}index:succeeded") == 3
    assert raw.zcard(f"{prefix}index:succeeded:default") == 3
