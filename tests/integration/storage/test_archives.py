"""Data sets among the inputs of a tenant, in a real folder."""

import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from darkroom.storage import ObjectStore, StorageSettings, open_store
from darkroom.storage.archives import MOST_ENTRIES, MOST_OBJECTS, is_archive
from darkroom.storage.errors import InputForbidden, InputMissing, InputReferenceInvalid, InputTooLarge
from darkroom.storage.inputs import read_archive, store_input


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(StorageSettings(storage_url=(tmp_path / "store").as_uri()))


def packed(**files: bytes) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def read(store: ObjectStore, reference: str, most: int = 10_000) -> bytes:
    return read_archive(reference, tenant="alice", store=store, max_bytes=most)


def test_an_uploaded_zip_is_found_under_its_key(store: ObjectStore, tmp_path: Path) -> None:
    data = packed(a=b"1")
    key = store_input(data, tenant="alice", store=store, settings=StorageSettings())
    assert key.startswith("inputs/alice/") and key.endswith(".zip")
    assert read(store, key) == data
    path = tmp_path / "set.zip"
    path.write_bytes(data)
    assert store_input(path, tenant="alice", store=store, settings=StorageSettings()) == key


@pytest.mark.parametrize("as_file", [True, False])
def test_a_zip_may_be_larger_than_a_picture_and_has_a_limit_of_its_own(
    store: ObjectStore, tmp_path: Path, as_file: bool
) -> None:
    data = packed(a=bytes(3000))
    given = tmp_path / "set.zip"
    given.write_bytes(data)
    settings = StorageSettings(input_max_bytes=100, input_archive_max_bytes=5000)
    store_input(given if as_file else data, tenant="alice", store=store, settings=settings)
    less = settings.model_copy(update={"input_archive_max_bytes": 3000})
    with pytest.raises(InputTooLarge, match="the archive has more bytes than the limit of 3000"):
        store_input(given if as_file else data, tenant="alice", store=store, settings=less)


def test_the_objects_under_a_prefix_are_the_same_bytes_whenever_they_are_read(store: ObjectStore) -> None:
    for name in ("b.txt", "a.png", "in/c.png"):
        store.put(f"inputs/alice/set/{name}", name.encode(), content_type="x")
    store.put("inputs/alice/settled.png", b"another", content_type="x")
    found = read(store, "inputs/alice/set/")
    assert is_archive(found) and found == read(store, "inputs/alice/set/")
    with zipfile.ZipFile(BytesIO(found)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            "a.png": b"a.png",
            "b.txt": b"b.txt",
            "in/c.png": b"in/c.png",
        }


@pytest.mark.parametrize(
    ("reference", "error"),
    [
        ("inputs/bob/set/", InputForbidden),
        ("inputs/bob/0.zip", InputForbidden),
        ("inputs/alice/../bob/0.zip", InputReferenceInvalid),
        ("inputs/alice/none.zip", InputMissing),
        ("inputs/alice/none/", InputMissing),
        ("0197/0-0123456789abcdef.png", InputForbidden),
    ],
)
def test_what_is_not_the_tenants_or_not_there(store: ObjectStore, reference: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        read(store, reference)


def test_limits_hold_for_what_lies_under_a_prefix(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        store.put(f"inputs/alice/set/{number}.png", bytes(400), content_type="x")
    with pytest.raises(InputTooLarge, match="more bytes than the limit of 1000"):
        read(store, "inputs/alice/set/", most=1000)
    monkeypatch.setattr("darkroom.storage.archives.MOST_OBJECTS", 2)
    with pytest.raises(InputTooLarge, match="more than 2 objects"):
        read(store, "inputs/alice/set/")
    assert MOST_OBJECTS > MOST_ENTRIES  # which a reader of data sets tells of
    store.put("inputs/alice/large.zip", bytes(2000), content_type="x")
    with pytest.raises(InputTooLarge):
        read(store, "inputs/alice/large.zip", most=1000)
