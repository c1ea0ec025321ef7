"""Which objects nobody needs: found by one listing, and never one that a job has or will have."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from darkroom.cli.unnamed import BATCH, Records, Search
from darkroom.storage import ObjectStore, StorageSettings, StoredObject, open_store
from darkroom.tasks import Darkroom, JobResult, TaskSettings, claims
from darkroom.tasks.records import get_each
from darkroom.tasks.redis_io import BlockingIO
from darkroom.tasks.results import no_store
from tests.integration.hand import RULES, Hand

SHA = "0123456789abcdef"
LOST = str(uuid4())  # a job without a record


@dataclass
class Listed:
    """What a store lists, and what happens in the middle of it."""

    objects: list[StoredObject]
    meanwhile: Callable[[], object] = lambda: None
    listings: int = field(default=0)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        self.listings += 1
        yield from self.objects
        self.meanwhile()


class Redis:
    """A hand on the records, and a search that counts how often it reads."""

    def __init__(self, settings: TaskSettings) -> None:
        self.io, self.client, self.reads = BlockingIO(settings), Darkroom(settings), 0
        self.hand = Hand(self.io)

    def submit(self) -> str:
        return self.client.submit({"prompt": "a cat", "model": "sdxl"}).id

    def search(self, oldest: datetime | None = None) -> Search:
        def read(ids: Any) -> Records:
            self.reads += 1
            return self.io.run(get_each(ids, no_store))

        return Search(read, oldest, lambda _: None)

    def close(self) -> None:
        self.io.close()
        self.client.close()


@pytest.fixture
def redis(task_settings: TaskSettings) -> Iterator[Redis]:
    redis = Redis(task_settings)
    yield redis
    redis.close()


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "folder":
        return open_store(StorageSettings(storage_url=(tmp_path / "store").as_uri()))
    return open_store(request.getfixturevalue("s3_settings"))


def put(store: ObjectStore, *keys: str) -> None:
    for key in keys:
        store.put(key, b"x", content_type="image/png")


def test_what_no_record_of_an_ended_job_names(redis: Redis, store: ObjectStore) -> None:
    ended, running, waiting, spoilt = (redis.submit() for _ in range(4))
    for job_id in (ended, running, spoilt):
        held = redis.hand.claim(job_id)
        named, file = redis.hand.picture(held), redis.hand.file(held)
        if job_id != running:
            result = JobResult(manifest=f"{job_id}/manifest-{SHA}.json")
            redis.io.run(claims.succeed(held, result, [named], RULES, [file]))
    redis.io.run(_write("HSET", spoilt, "request", "[" * 20_000))
    kept = [f"{job_id}/{name}" for job_id in (ended, running, waiting, spoilt) for name in (f"0-{SHA}.png",)]
    kept += [f"{ended}/manifest-{SHA}.json", f"{running}/1-{SHA}.png", f"{waiting}/1-{SHA}.png", f"{LOST}/0-{SHA}.png"]
    kept.remove(f"{waiting}/0-{SHA}.png")
    kept += [f"{job_id}/latents-0-{SHA}.safetensors" for job_id in (ended, running, spoilt, LOST)]
    lost = [f"{ended}/latents-0-{SHA[::-1]}.safetensors", f"{ended}/sheet-{SHA}.png"]
    lost += [f"{ended}/0-{SHA[::-1]}.png", f"{ended}/1-{SHA}.webp", f"{ended}/manifest-{SHA[::-1]}.json"]
    put(store, *kept, *lost)
    search = redis.search()
    assert sorted(search.unnamed(store)) == sorted(lost)
    assert list(search.unreadable) == [spoilt]


def test_keys_that_only_look_alike_are_nobodys_business(redis: Redis, store: ObjectStore) -> None:
    ended = redis.submit()
    redis.hand.run(ended)
    put(
        store,
        ended,  # no folder of that name
        f"{ended}-0/0-{SHA}.png",
        f"{LOST.upper()}/0-{SHA}.png",
        f"{LOST.replace('-', '')}/0-{SHA}.png",
        f"{LOST}/notes.txt",
        f"{LOST}/Sheet-{SHA}.png",
        f"{LOST}/my-notes-{SHA}.json",
        f"{LOST}/sheet-{SHA}.exe",
        f"{LOST}/deeper/0-{SHA}.png",
        f"{LOST}/0-{SHA}.png.bak",
        f"inputs/{LOST}/0-{SHA}.png",
        f"inputs/default/{'a' * 64}.png",
        f"loras/default/cat/{'a' * 64}.safetensors",
        f"loras/{LOST}/cat/{'a' * 64}.json",
    )
    store.make_mark("0123")
    assert list(redis.search(datetime.now(UTC) + timedelta(days=1)).unnamed(store)) == []
    assert store.mark() == "0123"


def test_objects_without_a_record_go_by_their_age(redis: Redis, tmp_path: Path) -> None:
    store, oldest = open_store(StorageSettings(storage_url=tmp_path.as_uri())), datetime.now(UTC) - timedelta(days=7)
    old, young = f"{LOST}/0-{SHA}.png", f"{LOST}/1-{SHA}.png"
    put(store, old, young)
    os.utime(tmp_path / old, (1, 1))
    assert list(redis.search(oldest).unnamed(store)) == [old]
    assert list(redis.search().unnamed(store)) == []


def test_a_job_that_ends_while_the_store_is_listed_keeps_what_it_named(redis: Redis) -> None:
    job_id = redis.submit()
    held = redis.hand.claim(job_id)
    manifest, late = f"{job_id}/manifest-{SHA}.json", f"{job_id}/1-{SHA}.png"

    def end() -> None:
        named = redis.hand.picture(held)
        assert redis.io.run(claims.succeed(held, JobResult(manifest=manifest), [named], RULES))

    keys = [f"{job_id}/0-{SHA}.png", late, manifest]
    store = Listed([StoredObject(key, 1, datetime.now(UTC)) for key in keys], end)
    assert list(redis.search().unnamed(store)) == [late]  # type: ignore[arg-type]


def test_a_store_is_listed_once_and_records_are_read_by_the_thousand(redis: Redis) -> None:
    objects = [StoredObject(f"{uuid4()}/0-{SHA}.png", 1, datetime.now(UTC)) for _ in range(BATCH + 1)]
    store = Listed(objects)
    assert list(redis.search().unnamed(store)) == []  # type: ignore[arg-type]
    assert (store.listings, redis.reads) == (1, 2)


def test_what_was_found_may_be_deleted_on_the_way(redis: Redis, store: ObjectStore) -> None:
    ended = [redis.submit() for _ in range(3)]
    for job_id in ended:
        redis.hand.run(job_id)
    put(store, *(f"{job_id}/{number}-{SHA[::-1]}.png" for job_id in ended for number in range(3)))
    for key in redis.search().unnamed(store):
        store.delete(key)
    assert list(store.list("")) == []


def _write(name: str, job_id: str, *words: str) -> Any:
    from darkroom.tasks.redis_io import Key, command

    yield command(name, Key(f"job:{job_id}"), *words)
