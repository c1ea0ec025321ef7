"""A tenant's own LoRAs in Redis and the store, and what submits make of them."""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from darkroom.storage import ObjectStore, StorageSettings, open_store
from darkroom.tasks import InvalidRequest, Lora, TaskSettings, Txt2Img
from darkroom.tasks import own_versions as versions
from darkroom.tasks.adapters import OwnLora
from darkroom.tasks.errors import LoraNameTaken, LoraNotFound
from darkroom.tasks.own_loras import key_of, read_all
from darkroom.tasks.redis_io import BlockingIO
from darkroom.tasks.requests import Request

from .conftest import Faces

OLD, NEW = "a" * 64, "b" * 64
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def lora(name: str = "cat", sha256: str = OLD, hours: int = 0, **more: Any) -> OwnLora:
    facts = {"rank": 4, "bytes": 3, "family": "sdxl", "made": NOON + timedelta(hours=hours), **more}
    return OwnLora.model_validate({"name": name, "sha256": sha256, **facts})


class Shelf:
    """Redis and a store, as a command or a worker has them."""

    def __init__(self, settings: TaskSettings, store: ObjectStore) -> None:
        self.io, self.store = BlockingIO(settings), store

    def run(self, make: Any, /) -> Any:
        return self.io.run(make())

    def add(self, one: OwnLora, tenant: str = "alice", **how: Any) -> None:
        versions.add(self.run, self.store, tenant, one, b"abc", **how)

    def remove(self, name: str) -> int:
        known = self.io.run(versions.forget("alice", name))
        return versions.delete_files(self.store, "alice", name, known=known)

    def known(self, tenant: str = "alice") -> dict[str, str]:
        return {name: one.sha256 for name, one in self.io.run(read_all(tenant)).loras.items()}

    def keys(self) -> list[str]:
        return [item.key for item in self.store.list("")]


@pytest.fixture
def shelf(task_settings: TaskSettings, tmp_path: Path) -> Iterator[Shelf]:
    shelf = Shelf(task_settings, open_store(StorageSettings(storage_url=(tmp_path / "store").as_uri())))
    yield shelf
    shelf.io.close()


def asked(*loras: Any, tenant: str = "alice") -> dict[str, Any]:
    return {"prompt": "a", "model": "sdxl", "tenant": tenant, "loras": [*loras]}


def digests(request: Request) -> list[tuple[str | None, bool]]:
    return [(one.sha256, one.own) for one in request.loras] if isinstance(request, Txt2Img) else []


def test_a_submit_resolves_a_name_to_the_newest_version(face: Faces, task_settings: TaskSettings, shelf: Shelf) -> None:
    client = face(task_settings)
    shelf.add(lora())
    before = client.submit(asked("cat")).id
    shelf.add(lora(sha256=NEW, hours=1), overwrite=True)
    after = client.submit(Txt2Img(**{**asked(), "loras": [Lora(name="cat", scale=0.5)]})).id
    assert digests(client.get(before).request) == [(OLD, True)]
    assert digests(client.get(after).request) == [(NEW, True)]
    assert client.get(after).needs == ["lora:own", "loras"]
    assert set(shelf.keys()) == {key_of("alice", "cat", one, end) for one in (OLD, NEW) for end in _ENDINGS}


_ENDINGS = ("safetensors", "json")


def test_many_requests_are_read_for_at_once(face: Faces, task_settings: TaskSettings, shelf: Shelf) -> None:
    client = face(task_settings)
    shelf.add(lora())
    shelf.add(lora("dog", NEW), "bob")
    batch = [asked("cat"), asked("dog", tenant="bob"), asked("dog"), {"prompt": "a", "model": "sdxl"}]
    outcomes = list(client.submit_many(batch))
    assert [outcome.error is None for outcome in outcomes] == [True, True, False, True]
    assert isinstance(outcomes[2].error, InvalidRequest)
    assert [fault.code for fault in outcomes[2].error.faults] == ["unknown_lora"]


@pytest.mark.parametrize("broken", ["field", "key"])
def test_an_entry_that_cannot_be_read(
    face: Faces, task_settings: TaskSettings, shelf: Shelf, raw: "redis.Redis[str]", broken: str
) -> None:
    client, place = face(task_settings), f"{task_settings.redis_prefix}loras:alice"
    shelf.add(lora())
    if broken == "field":
        raw.hset(place, "cat", '{"name": "cat"')
        with pytest.raises(LoraNameTaken):
            shelf.add(lora(sha256=NEW))
        assert shelf.io.run(read_all("alice")).unreadable == {"cat"}
    else:
        raw.delete(place)
        raw.set(place, "?")
    with pytest.raises(InvalidRequest) as caught:
        client.submit(asked("cat"))
    assert [fault.code for fault in caught.value.faults] == ["lora_unreadable"]
    assert client.submit(asked(tenant="alice")).id
    if broken == "key":
        raw.delete(place)
    assert versions.restore(shelf.run, shelf.store).written == ["alice/cat"]
    assert client.submit(asked("cat")).id


def test_a_name_is_taken_once(shelf: Shelf) -> None:
    shelf.add(lora(job="j"))
    with pytest.raises(LoraNameTaken, match="'cat'"):
        shelf.add(lora(sha256=NEW))
    with pytest.raises(LoraNameTaken):
        shelf.io.run(versions.check_free("alice", "cat"))
    shelf.io.run(versions.check_free("alice", "cat", job="j"))
    shelf.io.run(versions.check_free("bob", "cat"))
    shelf.add(lora(hours=1))  # the same file
    shelf.add(lora(sha256=NEW, hours=2, job="j"))  # by the same job, which began anew
    assert shelf.known() == {"cat": NEW}
    shelf.add(lora(sha256=NEW), "bob")
    assert (shelf.known(), shelf.known("bob")) == ({"cat": NEW}, {"cat": NEW})


def test_who_comes_second_leaves_nothing(shelf: Shelf) -> None:
    class Late(Shelf):
        """While its file is being stored another one takes the name."""

        def run(self, make: Any, /) -> Any:
            if self.keys() and not self.known():
                versions.add(super().run, self.store, "alice", lora(sha256=NEW), b"new")
            return super().run(make)

    late = Late.__new__(Late)
    late.io, late.store = shelf.io, shelf.store
    with pytest.raises(LoraNameTaken):
        late.add(lora())
    assert shelf.known() == {"cat": NEW}
    assert shelf.keys() == sorted(key_of("alice", "cat", NEW, end) for end in _ENDINGS)


def test_what_is_deleted_is_gone_with_its_versions(
    face: Faces, task_settings: TaskSettings, shelf: Shelf, raw: "redis.Redis[str]"
) -> None:
    shelf.add(lora())
    shelf.add(lora(sha256=NEW, hours=1), overwrite=True)
    shelf.add(lora("cat-2"))
    assert shelf.remove("cat") == 2
    assert shelf.keys() == sorted(key_of("alice", "cat-2", OLD, end) for end in _ENDINGS)
    with pytest.raises(LoraNotFound):
        shelf.remove("cat")
    with pytest.raises(InvalidRequest, match="no worker of sdxl has been up yet"):
        face(task_settings).submit(asked("cat"))
    raw.hdel(f"{task_settings.redis_prefix}loras:alice", "cat-2")
    assert shelf.remove("cat-2") == 1  # a deletion that was cut off is finished
    assert shelf.keys() == []


def test_the_list_is_made_anew_from_the_store(
    shelf: Shelf, raw: "redis.Redis[str]", task_settings: TaskSettings
) -> None:
    shelf.add(lora(hours=1))
    shelf.add(lora(sha256=NEW), overwrite=True)
    shelf.add(lora("dog"), "bob")
    shelf.store.put(key_of("alice", "lost", OLD, "json"), b"{}", content_type="application/json")  # without its file
    for ending in _ENDINGS:
        shelf.store.put(key_of("alice", "odd", OLD, ending), lora().model_dump_json().encode(), content_type="a/b")
    raw.delete(f"{task_settings.redis_prefix}loras:alice", f"{task_settings.redis_prefix}loras:bob")
    assert versions.restore(shelf.run, shelf.store, "bob").written == ["bob/dog"]
    found = versions.restore(shelf.run, shelf.store)
    assert found.written == ["alice/cat"]  # the one that came last
    assert found.unreadable == [key_of("alice", "odd", OLD, "json")]
    assert (shelf.known(), shelf.known("bob")) == ({"cat": OLD}, {"dog": OLD})
    assert versions.restore(shelf.run, shelf.store).written == []
    entry = json.loads(raw.hget(f"{task_settings.redis_prefix}loras:alice", "cat") or "")
    assert entry["made"] == "2030-01-01T13:00:00Z"


def test_a_bucket_does_as_well(task_settings: TaskSettings, s3_settings: StorageSettings) -> None:
    shelf = Shelf(task_settings, open_store(s3_settings))
    one = lora(sha256=hashlib.sha256(b"abc").hexdigest())
    shelf.add(one)
    assert shelf.store.get(key_of("alice", "cat", one.sha256)) == b"abc"
    shelf.io.run(versions.forget("alice", "cat"))
    assert versions.restore(shelf.run, shelf.store).written == ["alice/cat"]
    assert shelf.io.run(read_all("alice")).loras == {"cat": one}
    assert shelf.remove("cat") == 1
    assert shelf.keys() == []
    shelf.io.close()


def test_the_clients_of_python_see_and_delete_them(face: Faces, task_settings: TaskSettings, shelf: Shelf) -> None:
    client = face(task_settings, storage=shelf.store)
    shelf.add(lora())
    assert client.loras("alice") == {"cat": lora()}
    assert client.loras("bob") == {}
    assert client.delete_lora("cat", tenant="alice") == 1
    assert client.loras("alice") == {}
    with pytest.raises(LoraNotFound):
        client.delete_lora("cat", tenant="alice")
