"""Which store belongs to a Redis: real folders that are moved away, buckets, and both clients."""

import asyncio
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis
from PIL import Image

from darkroom.storage import ObjectStore, StorageSettings, open_store
from darkroom.storage.errors import StorageAway
from darkroom.tasks import AsyncDarkroom, Darkroom, Job, StorageFailed, TaskSettings
from darkroom.tasks.marks import Adopted, adopt, agree, expecting, known_mark
from darkroom.tasks.redis_io import BlockingIO
from tests.integration.hand import Hand

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


@pytest.fixture
def io(task_settings: TaskSettings) -> Iterator[BlockingIO]:
    io = BlockingIO(task_settings)
    yield io
    io.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> ObjectStore:
    return at(folder)


@pytest.fixture
def client(task_settings: TaskSettings, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Darkroom]:
    """With the store of the environment, as an application has it."""
    monkeypatch.setenv("DARKROOM_STORAGE_URL", folder.as_uri())
    with Darkroom(task_settings) as client:
        yield client


def at(folder: Path) -> ObjectStore:
    return open_store(StorageSettings(storage_url=folder.as_uri()))


def picture() -> bytes:
    file = BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()


def ended(client: Darkroom, io: BlockingIO, store: ObjectStore) -> Job:
    """A job whose picture lies in the store."""
    handle = client.submit({"prompt": "a cat", "model": "sdxl"})
    Hand(io).run(handle.id)
    job = handle.get()
    store.put(job.images[0].key, b"picture", content_type="image/png")
    return job


def test_the_first_store_is_marked(io: BlockingIO, store: ObjectStore) -> None:
    mark = io.run(agree(store))
    assert mark
    assert (store.mark(), io.run(known_mark()), io.run(agree(store))) == (mark, mark, mark)


def test_jobs_that_wait_speak_against_no_store(client: Darkroom, io: BlockingIO, store: ObjectStore) -> None:
    """As where the producer came first; an image that was never uploaded proves nothing either."""
    client.submit({"prompt": "a cat", "model": "sdxl"})
    client.submit({"kind": "img2img", "prompt": "a cat", "model": "sdxl", "image": f"inputs/default/{'a' * 64}.png"})
    assert io.run(agree(store)) == store.mark()


def test_workers_that_start_at_once_agree(task_settings: TaskSettings, folder: Path) -> None:
    expected = expecting(task_settings)
    with ThreadPoolExecutor(8) as threads:
        marks = set(threads.map(lambda _: expected(at(folder)), range(16)))
    assert marks == {at(folder).mark()}


def test_a_worker_that_died_over_it_is_no_harm(
    io: BlockingIO, store: ObjectStore, raw: "redis.Redis[str]", task_settings: TaskSettings
) -> None:
    raw.hset(f"{task_settings.redis_prefix}store", "id", "begun")
    assert (io.run(agree(store)), store.mark()) == ("begun", "begun")


def test_an_upgrade_goes_on_where_the_objects_are(client: Darkroom, io: BlockingIO, store: ObjectStore) -> None:
    ended(client, io, store)
    mark = io.run(agree(store))
    assert mark is not None
    assert store.mark() == mark


def test_an_upgrade_does_not_mark_an_empty_place(
    client: Darkroom, io: BlockingIO, store: ObjectStore, folder: Path, tmp_path: Path
) -> None:
    ended(client, io, store)
    folder.rename(tmp_path / "unmounted")
    folder.mkdir()
    assert io.run(agree(at(folder))) is None
    assert (at(folder).mark(), io.run(known_mark()), list(folder.iterdir())) == (None, None, [])


def test_a_store_that_is_marked_keeps_its_mark_for_another_redis(io: BlockingIO, store: ObjectStore) -> None:
    """Several installations may share a store, and one that lost its Redis goes on."""
    store.make_mark("mine")
    assert (io.run(agree(store)), store.mark()) == ("mine", "mine")


def test_a_mark_that_was_deleted_is_made_again_at_a_start_where_the_objects_are(
    client: Darkroom, io: BlockingIO, store: ObjectStore, folder: Path
) -> None:
    """As a lifecycle rule of a bucket does."""
    mark = io.run(agree(store))
    (folder / ".darkroom-store").unlink()
    assert (io.run(agree(store, starting=True)), store.mark()) == (mark, None)
    ended(client, io, store)
    assert (io.run(agree(store)), store.mark()) == (mark, None)
    assert (io.run(agree(store, starting=True)), store.mark()) == (mark, mark)


def test_a_store_is_adopted_on_purpose(io: BlockingIO, store: ObjectStore, tmp_path: Path) -> None:
    before = io.run(agree(store))
    new = at(tmp_path / "new")
    adopted = io.run(adopt(new))
    assert adopted == Adopted(str(new.mark()), before, made=True)
    assert io.run(agree(new)) == new.mark() == before  # it had none: it is the same store, elsewhere
    other = at(tmp_path / "other")
    other.make_mark("other")
    assert io.run(adopt(other)) == Adopted("other", before, made=False)


@pytest.fixture(params=["gone", "empty", "another"])
def unmount(request: pytest.FixtureRequest, folder: Path, tmp_path: Path) -> Callable[[], Callable[[], None]]:
    """Takes the folder away in one of the ways that happen; gives what brings it back."""

    def unmount() -> Callable[[], None]:
        folder.rename(tmp_path / "unmounted")
        if request.param != "gone":
            folder.mkdir()
        if request.param == "another":
            at(folder).make_mark("another")

        def mount() -> None:
            if folder.exists():
                for path in folder.iterdir():
                    path.unlink()
                folder.rmdir()
            (tmp_path / "unmounted").rename(folder)

        return mount

    return unmount


def test_a_producer_writes_nothing_where_the_store_is_not(
    client: Darkroom, task_settings: TaskSettings, folder: Path, unmount: Callable[[], Callable[[], None]]
) -> None:
    key = client.upload(picture())
    mount = unmount()
    other = BytesIO()
    Image.new("RGB", (9, 9)).save(other, "PNG")

    async def upload() -> str:
        async with AsyncDarkroom(task_settings) as client:
            return await client.upload(other.getvalue())

    for uploading in (lambda: client.upload(other.getvalue()), lambda: asyncio.run(upload())):
        with pytest.raises(StorageFailed, match="darkroom store adopt") as caught:
            uploading()
        assert caught.value.reason == "storage_away"
    assert not folder.exists() or not [path for path in folder.iterdir() if path.name != ".darkroom-store"]
    mount()
    assert client.upload(picture()) == key
    assert client.upload(other.getvalue()) != key


def test_a_result_is_not_called_missing_where_the_store_is(
    client: Darkroom, io: BlockingIO, folder: Path, store: ObjectStore, unmount: Callable[[], Callable[[], None]]
) -> None:
    client.upload(picture())
    job = ended(client, io, store)
    mount = unmount()
    for use in (job.images[0].read, lambda: client.delete(job.id)):
        with pytest.raises(StorageFailed) as caught:
            use()
        assert caught.value.reason == "storage_away"
    mount()
    assert client.get(job.id).images[0].read() == b"picture"
    store.delete(job.images[0].key)
    with pytest.raises(StorageFailed) as caught:
        client.get(job.id).images[0].read()
    assert caught.value.reason == "object_not_found"
    client.delete(job.id)


def test_a_producer_notices_that_another_store_was_adopted(
    client: Darkroom, io: BlockingIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.upload(picture())
    new = at(tmp_path / "new")
    new.make_mark("new")
    io.run(adopt(new))
    monkeypatch.setattr("darkroom.storage.marks.EXPECTED_SECONDS", 0)
    other = BytesIO()
    Image.new("RGB", (9, 9)).save(other, "PNG")
    with pytest.raises(StorageFailed, match="another store's mark"):
        client.upload(other.getvalue())


def test_a_bucket_that_was_made_anew_is_another(
    s3_settings: StorageSettings, s3_client: "S3Client", task_settings: TaskSettings
) -> None:
    bucket = f"empty-{uuid.uuid4().hex}"
    s3_client.create_bucket(Bucket=bucket)
    right = open_store(s3_settings, expected=expecting(task_settings))
    right.put("a", b"x", content_type="image/png")
    empty = s3_settings.model_copy(update={"storage_url": f"s3://{bucket}"})
    wrong = open_store(empty, expected=expecting(task_settings))
    uses: list[Callable[[], object]] = [
        lambda: wrong.put("b", b"x", content_type="image/png"),
        lambda: wrong.get("a"),
        lambda: wrong.exists("a"),
        lambda: wrong.delete("a"),
        lambda: wrong.list(""),
        wrong.check,
    ]
    for use in uses:
        with pytest.raises(StorageAway, match=bucket):
            use()
    assert "Contents" not in s3_client.list_objects_v2(Bucket=bucket)
    assert (right.get("a"), right.exists("a"), right.exists("b")) == (b"x", True, False)
