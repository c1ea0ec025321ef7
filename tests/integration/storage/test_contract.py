"""What every store promises, on a folder and on S3 over HTTP."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.request import urlopen

import pytest

from darkroom.storage import ObjectStore
from darkroom.storage.errors import KeyInvalid, ObjectNotFound, ObjectTooLarge


def put(store: ObjectStore, key: str, data: bytes = b"x") -> None:
    store.put(key, data, content_type="image/png")


def test_put_then_get(store: ObjectStore) -> None:
    store.put("job-1/0-abc.png", b"\x00\xffbytes", content_type="image/png", metadata={"job": "job-1"})
    assert store.get("job-1/0-abc.png") == b"\x00\xffbytes"


def test_put_file(store: ObjectStore, tmp_path: Path) -> None:
    source = tmp_path / "picture"
    source.write_bytes(b"of a file")
    store.put("a", source, content_type="image/png")
    assert store.get("a") == b"of a file"


def test_put_file_that_is_not_there(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.put("a", tmp_path / "nothing", content_type="image/png")
    assert not store.exists("a")


def test_put_replaces(store: ObjectStore) -> None:
    put(store, "a", b"long before")
    put(store, "a", b"now")
    assert store.get("a") == b"now"


def test_empty_object(store: ObjectStore) -> None:
    put(store, "empty", b"")
    assert store.get("empty") == b""
    assert store.exists("empty")


def test_large_object(store: ObjectStore, tmp_path: Path) -> None:
    """Over the size from which S3 takes an object in parts."""
    data = bytes(range(256)) * (17 * 4096)
    put(store, "large", data)
    assert store.get("large") == data
    source = tmp_path / "large"
    source.write_bytes(data)
    store.put("large-file", source, content_type="image/png")
    assert store.get("large-file") == data


def test_get_nothing(store: ObjectStore) -> None:
    with pytest.raises(ObjectNotFound, match="nothing/here") as caught:
        store.get("nothing/here")
    assert caught.value.code == "object_not_found"
    assert not caught.value.retryable


def test_get_up_to_a_limit(store: ObjectStore) -> None:
    put(store, "a", b"12345")
    assert store.get("a", limit=5) == b"12345"
    with pytest.raises(ObjectTooLarge, match="5 bytes"):
        store.get("a", limit=4)


def test_exists(store: ObjectStore) -> None:
    assert not store.exists("a/b")
    put(store, "a/b")
    assert store.exists("a/b")
    assert not store.exists("a")


def test_delete(store: ObjectStore) -> None:
    put(store, "a/b")
    put(store, "a/c")
    store.delete("a/b")
    assert not store.exists("a/b")
    assert store.exists("a/c")
    store.delete("a/b")
    store.delete("never/there")


def test_delete_leaves_nothing_behind(store: ObjectStore) -> None:
    put(store, "a/b/c")
    store.delete("a/b/c")
    put(store, "a", b"the name is free again")
    assert [found.key for found in store.list("")] == ["a"]


def test_list(store: ObjectStore) -> None:
    for key in ("b/2", "a/1", "a-b/x", "b/1", "b/10/deep", "c"):
        put(store, key, b"123")
    assert [found.key for found in store.list("")] == ["a-b/x", "a/1", "b/1", "b/10/deep", "b/2", "c"]
    assert [found.key for found in store.list("b/")] == ["b/1", "b/10/deep", "b/2"]
    assert [found.key for found in store.list("b/1")] == ["b/1", "b/10/deep"]
    assert [found.key for found in store.list("a")] == ["a-b/x", "a/1"]
    assert list(store.list("nothing/")) == []


def test_listed_size_and_time(store: ObjectStore) -> None:
    put(store, "a", b"12345")
    (found,) = store.list("a")
    assert found.size == 5
    assert abs(found.modified - datetime.now(UTC)) < timedelta(minutes=1)


def test_link_reads_the_object(store: ObjectStore) -> None:
    put(store, "a b/ü&?#%.png", b"linked")
    with urlopen(store.url("a b/ü&?#%.png", 60)) as answer:
        assert answer.read() == b"linked"


def test_link_with_impossible_lifetime(store: ObjectStore) -> None:
    for seconds in (0, -1, 7 * 24 * 3600 + 1):
        with pytest.raises(ValueError, match="604800 seconds"):
            store.url("a", seconds)


def test_no_key_escapes(store: ObjectStore) -> None:
    uses = (store.get, store.exists, store.delete, lambda key: put(store, key), lambda key: store.url(key, 60))
    for key in ("", "/etc/passwd", "../a", "a/../b", "a//b", "a\\b", "a\0b", ".hidden"):
        for use in uses:
            with pytest.raises(KeyInvalid):
                use(key)


def test_no_prefix_escapes(store: ObjectStore) -> None:
    for prefix in ("/", "../", "a//b", ".", "a\0"):
        with pytest.raises(KeyInvalid):
            store.list(prefix)


def test_check_leaves_nothing_behind(store: ObjectStore) -> None:
    store.check()
    store.check(write=False)
    assert list(store.list("")) == []


def test_mark(store: ObjectStore) -> None:
    assert store.mark() is None
    store.make_mark("one")
    store.make_mark("two")
    assert store.mark() == "two"
    assert list(store.list("")) == []
    put(store, "a")
    store.delete("a")
    assert store.mark() == "two"


def test_check_with_bytes_leaves_nothing_behind(store: ObjectStore) -> None:
    store.check(size=100_000)
    assert list(store.list("")) == []


def test_many_threads(store: ObjectStore) -> None:
    """A writer, a reader and a deleter of one key meet whole objects only, and no other error."""
    bodies = {bytes([letter]) * 100_000 for letter in b"abcd"}
    seen: set[bytes] = set()
    start = threading.Barrier(4)

    def write(body: bytes) -> None:
        start.wait()
        for _ in range(10):
            put(store, "shared/a/b", body)
            with contextlib.suppress(ObjectNotFound):
                seen.add(store.get("shared/a/b"))
            store.delete("shared/a/b")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, bodies))
    assert seen
    assert seen <= bodies
