"""Files of tenants' LoRAs on a worker's disk: whole, by digest, and gone when there is no more room."""

import fcntl
import hashlib
import os
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import pytest

from darkroom.worker.adapters.own_files import OwnFiles
from darkroom.worker.errors import AdapterDigestMismatch, AdapterNotKept


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def asked(files: OwnFiles, data: bytes, times: list[bytes] | None = None) -> bytes:
    """What is held under the digest of these bytes; `times` has what was fetched."""

    def fetch() -> bytes:
        (times if times is not None else []).append(data)
        return data

    with files.held(digest(data), fetch) as path:
        return path.read_bytes()


def there(folder: Path) -> set[bytes]:
    return {path.read_bytes() for path in folder.glob("*.safetensors")}


def test_a_file_is_fetched_once_and_lies_there_by_its_digest(tmp_path: Path) -> None:
    files, fetched = OwnFiles(tmp_path / "own"), list[bytes]()
    assert [asked(files, b"cat", fetched) for _ in range(2)] == [b"cat", b"cat"]
    assert fetched == [b"cat"]
    assert [path.name for path in (tmp_path / "own").iterdir()] == [f"{digest(b'cat')}.safetensors"]


def test_other_bytes_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    files = OwnFiles(tmp_path)
    with pytest.raises(AdapterDigestMismatch, match=digest(b"dog")), files.held(digest(b"cat"), lambda: b"dog"):
        pytest.fail("it was let in")
    assert list(tmp_path.iterdir()) == []


def test_a_passing_file_is_gone_whatever_happens_and_nobody_finds_it(tmp_path: Path) -> None:
    files, fetched = OwnFiles(tmp_path / "own"), list[bytes]()
    with files.passing(b"cat") as path:
        assert path.read_bytes() == b"cat" and asked(files, b"cat", fetched) == b"cat"
    with pytest.raises(ZeroDivisionError), files.passing(b"cat") as other:
        raise ZeroDivisionError
    assert fetched == [b"cat"] and not path.exists() and not other.exists()


def test_what_a_killed_process_leaves_of_a_passing_file_goes_when_it_is_old(tmp_path: Path) -> None:
    files = OwnFiles(tmp_path)
    with files.passing(b"cat") as path:
        os.utime(path, (0, 0))
        with files.passing(b"dog") as other:
            assert not path.exists() and other.read_bytes() == b"dog"


def test_what_was_used_longest_ago_leaves_first(tmp_path: Path) -> None:
    files = OwnFiles(tmp_path, room=30)
    for age, data in ((3, b"a" * 10), (2, b"b" * 10), (1, b"c" * 10)):
        asked(files, data)
        os.utime(tmp_path / f"{digest(data)}.safetensors", (1000 - age, 1000 - age))
    asked(files, b"a" * 10)  # used again
    asked(files, b"d" * 10)
    assert there(tmp_path) == {b"a" * 10, b"c" * 10, b"d" * 10}
    asked(files, b"e" * 40)  # one that is larger than the room is kept all the same
    assert there(tmp_path) == {b"e" * 40}


def test_what_is_in_use_stays_whoever_makes_room(tmp_path: Path) -> None:
    ours, theirs = OwnFiles(tmp_path, room=20), OwnFiles(tmp_path, room=20)
    with ExitStack() as stack:
        used = stack.enter_context(ours.held(digest(b"a" * 15), lambda: b"a" * 15))
        asked(theirs, b"b" * 15)
        assert used.read_bytes() == b"a" * 15
    asked(theirs, b"c" * 15)
    assert there(tmp_path) == {b"c" * 15}


def test_one_that_is_deleted_in_the_last_moment_is_fetched_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, fetched, real = OwnFiles(tmp_path), list[bytes](), fcntl.flock
    asked(files, b"cat", fetched)

    def flock(file: IO[bytes], how: int) -> None:
        """Another process was first, once."""
        monkeypatch.setattr(fcntl, "flock", real)
        (tmp_path / f"{digest(b'cat')}.safetensors").unlink()
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    assert asked(files, b"cat", fetched) == b"cat"
    assert len(fetched) == 2


def test_one_that_was_changed_here_is_fetched_anew_by_the_next(tmp_path: Path) -> None:
    files, fetched = OwnFiles(tmp_path), list[bytes]()
    asked(files, b"cat", fetched)
    with pytest.raises(AdapterDigestMismatch), files.held(digest(b"cat"), lambda: b"cat"):
        raise AdapterDigestMismatch("it is another one")
    asked(files, b"cat", fetched)
    assert len(fetched) == 2


def test_what_was_never_finished_goes_after_a_day(tmp_path: Path) -> None:
    old, young = tmp_path / "x.part", tmp_path / "y.part"
    for path in (old, young):
        path.touch()
    os.utime(old, (1000, 1000))
    asked(OwnFiles(tmp_path), b"cat")
    assert (old.exists(), young.exists()) == (False, True)


def test_a_disk_that_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "own").touch()
    with pytest.raises(AdapterNotKept, match="cannot be kept on this worker") as caught:
        asked(OwnFiles(tmp_path / "own"), b"cat")
    assert caught.value.retryable
