"""Pictures that wait for a store that is away."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from darkroom.storage import open_store
from darkroom.storage.errors import StorageUnavailable
from darkroom.storage.settings import StorageSettings
from darkroom.worker.delivery import patience
from darkroom.worker.delivery.patience import PREFIX, PatientStore, forget_the_dead


class Away:
    """A store that is away a few times, and remembers what it was given."""

    def __init__(self, folder: Path, times: int) -> None:
        self.inner, self.times = open_store(StorageSettings(storage_url=folder.as_uri())), times
        self.given: list[type] = []

    def put(self, key: str, data: bytes | Path, **about: Any) -> None:
        self.given.append(type(data))
        self.times -= 1
        if self.times >= 0:
            raise StorageUnavailable("away")
        self.inner.put(key, data, **about)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(patience.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(patience.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


def keep_on() -> None:
    pass


def test_a_picture_waits_on_the_disk(tmp_path: Path) -> None:
    away = Away(tmp_path, 3)
    PatientStore(away, 60, keep_on).put("j/0.png", b"picture", "image/png", "a" * 64)  # type: ignore[arg-type]
    assert away.inner.get("j/0.png") == b"picture"
    assert away.given[0] is bytes and issubclass(away.given[-1], Path)


def test_on_a_full_disk_it_waits_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", full)
    away = Away(tmp_path, 3)
    PatientStore(away, 60, keep_on).put("j/0.png", b"picture", "image/png", "a" * 64)  # type: ignore[arg-type]
    assert away.inner.get("j/0.png") == b"picture"


def test_the_patience_is_of_the_job_not_of_each_picture(tmp_path: Path, clock: list[float]) -> None:
    store = PatientStore(Away(tmp_path, 10**6), 60, keep_on)  # type: ignore[arg-type]
    for _ in range(3):
        with pytest.raises(StorageUnavailable):
            store.put("j/0.png", b"picture", "image/png", "a" * 64)
    assert clock[0] < 65


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
