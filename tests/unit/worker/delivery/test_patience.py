"""Pictures that wait for a store that is away."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from darkroom.storage import open_store
from darkroom.storage.errors import BucketMissing, StorageDenied, StorageError, StorageFull, StorageUnavailable
from darkroom.storage.settings import StorageSettings
from darkroom.worker.delivery import patience
from darkroom.worker.delivery.attempt import OutOfPatience
from darkroom.worker.delivery.patience import PREFIX, PatientStore, forget_the_dead


class Away:
    """A store that is away a few times, and remembers what it was given; and its keeper, who finds `trouble`."""

    def __init__(self, folder: Path, times: int, trouble: StorageError | None = None) -> None:
        self.inner, self.times, self.trouble = open_store(StorageSettings(storage_url=folder.as_uri())), times, trouble
        self.given: list[type] = []
        self.waits = self.looks = 0

    @property
    def store(self) -> "Away":
        return self

    def put(self, key: str, data: bytes | Path, **about: Any) -> None:
        self.given.append(type(data))
        self.times -= 1
        if self.times >= 0:
            raise StorageUnavailable("away")
        self.inner.put(key, data, **about)

    def heard(self, error: StorageError, size: int) -> StorageError | None:
        return self.trouble

    def look(self) -> None:
        self.looks += 1

    def wait(self, seconds: float) -> bool:
        patience.time.sleep(seconds)  # the test's own
        self.waits += 1
        return self.waits % 4 == 0


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(patience.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(patience.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


def patient(away: Away, told: Callable[[StorageError], None] = lambda _: None) -> PatientStore:
    return PatientStore(away, 60, lambda: None, told)  # type: ignore[arg-type]


def put(store: PatientStore) -> None:
    store.put("j/0.png", b"picture", "image/png", "a" * 64)


def test_a_picture_waits_on_the_disk(tmp_path: Path) -> None:
    away = Away(tmp_path, 3)
    put(patient(away))
    assert away.inner.get("j/0.png") == b"picture"
    assert away.given[0] is bytes and issubclass(away.given[-1], Path)


def test_on_a_full_disk_it_waits_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", full)
    away = Away(tmp_path, 3)
    put(patient(away))
    assert away.inner.get("j/0.png") == b"picture"


@pytest.mark.parametrize(
    ("trouble", "ends"), [(None, StorageUnavailable), (StorageUnavailable("away"), OutOfPatience)], ids=["own", "store"]
)
def test_the_patience_is_of_the_job_not_of_each_picture(
    tmp_path: Path, clock: list[float], trouble: StorageError | None, ends: type[Exception]
) -> None:
    """Past it the job is charged where the store as a whole is well, else handed back."""
    store = patient(Away(tmp_path, 10**6, trouble))
    for _ in range(3):
        with pytest.raises(ends):
            put(store)
    assert 60 <= clock[0] < 65


@pytest.mark.parametrize("trouble", [StorageFull("full"), StorageDenied("denied"), BucketMissing("none")])
def test_what_is_wrong_with_the_store_is_waited_for_and_told_once(tmp_path: Path, trouble: StorageError) -> None:
    away, told = Away(tmp_path, 4, trouble), list[StorageError]()
    store = patient(away, told.append)
    put(store)
    assert (told, away.waits, away.looks) == ([trouble], 12, 1)  # a look at the end: jobs may be taken again
    away.times = 2
    put(store)
    assert told == [trouble, trouble]  # it was back in between


def test_what_is_wrong_with_one_object_is_not_waited_for(tmp_path: Path, clock: list[float]) -> None:
    def refuse() -> None:
        raise StorageDenied("this one")

    with pytest.raises(StorageDenied, match="this one"):
        patient(Away(tmp_path, 0)).retry(refuse)
    assert clock[0] == 0


def test_what_waited_for_a_process_that_died_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    owners = (f"{os.getpid()}-a", f"{dead.pid}-a", "abc", f"{10**30}-a")
    mine, theirs, old, absurd = (tmp_path / f"{PREFIX}{owner}" for owner in owners)
    other = tmp_path / "something else"
    for path in (mine, theirs, old, absurd, other):
        path.touch()
    forget_the_dead()
    assert sorted(tmp_path.iterdir()) == sorted([mine, other])
