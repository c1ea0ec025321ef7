"""The lock file, and files held against it."""

import json
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from darkroom.worker.errors import LockInvalid, ModelCorrupt, ModelDigestMismatch, ModelMissing
from darkroom.worker.models.digests import hash_files, verify
from darkroom.worker.models.lockfile import LOCK_NAME, LockedFile, LockedModel, pin, pin_first, read_lock, unpin

COMMIT = "a" * 40


def files(folder: Path, **contents: str) -> dict[str, Path]:
    for name, text in contents.items():
        (folder / name).write_text(text)
    return {name: folder / name for name in contents}


def locked(paths: dict[str, Path], revision: str = COMMIT) -> LockedModel:
    return LockedModel(source="some/repo", asked="main", revision=revision, files=hash_files(paths))


def test_hashes_are_sha256_with_progress_to_the_end(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    found = hash_files(files(tmp_path, a="abc", b=""), lambda done, total: told.append((done, total)))
    assert found["a"].sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert (found["a"].bytes, found["b"].bytes) == (3, 0)
    assert told[-1] == (3, 3)


def test_what_is_unchanged_verifies(tmp_path: Path) -> None:
    paths = files(tmp_path, a="one", b="two")
    assert set(verify("m", paths, locked(paths))) == {"a", "b"}


def test_a_changed_file_is_named(tmp_path: Path) -> None:
    paths = files(tmp_path, a="one", b="two")
    pinned = locked(paths)
    paths["b"].write_text("owt")
    with pytest.raises(ModelDigestMismatch, match="m: b changed"):
        verify("m", paths, pinned)


def test_a_short_download_is_corrupt_and_an_edited_file_of_ones_own_a_mismatch(tmp_path: Path) -> None:
    paths = files(tmp_path, a="one")
    pulled, own = locked(paths), locked(paths, "local")
    paths["a"].write_text("on")
    with pytest.raises(ModelCorrupt, match="2 bytes long where 3"):
        verify("m", paths, pulled)
    with pytest.raises(ModelDigestMismatch) as caught:
        verify("m", paths, own)
    assert "lock file" in caught.value.hint


def test_missing_and_extra_files_are_named(tmp_path: Path) -> None:
    paths = files(tmp_path, a="one", b="two")
    pinned = locked(paths)
    with pytest.raises(ModelMissing, match="b pinned"):
        verify("m", {"a": paths["a"]}, pinned)
    with pytest.raises(ModelDigestMismatch, match="c would be loaded"):
        verify("m", {**paths, "c": paths["a"]}, pinned)


def model(text: str) -> LockedModel:
    return LockedModel(source=text, files={"a": LockedFile(bytes=1, sha256="0" * 64)})


def test_pins_are_kept_sorted_in_json(tmp_path: Path) -> None:
    assert read_lock(tmp_path).models == {}
    pin(tmp_path, "b", model("b"))
    pin(tmp_path, "a", model("a"))
    assert list(json.loads((tmp_path / LOCK_NAME).read_text())["models"]) == ["a", "b"]
    assert read_lock(tmp_path).models == {"a": model("a"), "b": model("b")}


def test_the_first_pin_stands_until_it_is_taken_out(tmp_path: Path) -> None:
    assert pin_first(tmp_path, "a", model("first")) == pin_first(tmp_path, "a", model("second")) == model("first")
    assert pin(tmp_path, "a", model("third")) == read_lock(tmp_path).models["a"]
    assert unpin(tmp_path, "a")
    assert not unpin(tmp_path, "a")


def pin_many(arguments: tuple[Path, int]) -> None:
    folder, process = arguments
    for number in range(5):
        pin(folder, f"m{process}-{number}", model(str(number)))


def test_processes_and_threads_that_pin_at_once_lose_nothing(tmp_path: Path) -> None:
    with get_context("spawn").Pool(2) as pool, ThreadPoolExecutor(4) as threads:
        for_processes = pool.map_async(pin_many, [(tmp_path, n) for n in range(2)])
        list(threads.map(pin_many, [(tmp_path, n) for n in range(2, 6)]))
        for_processes.get(60)
    assert len(read_lock(tmp_path).models) == 30
    assert {path.name for path in tmp_path.iterdir()} <= {LOCK_NAME, f".{LOCK_NAME}.guard"}


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"version": 9}',
        '{"models": {"a": {"source": "x", "files": {"f": {"bytes": 1, "sha256": "short"}}}}}',
        '{"models": {"a": {"source": "x", "revision": "main", "files": {}}}}',
        '{"models": {"a": {"source": "x", "files": {"../f": {"bytes": 1, "sha256": "' + "0" * 64 + '"}}}}}',
    ],
)
def test_a_lock_file_that_says_something_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / LOCK_NAME).write_text(text)
    with pytest.raises(LockInvalid, match=LOCK_NAME):
        read_lock(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LockInvalid) as caught:
        pin(tmp_path / "file" / "models", "a", model("a"))
    assert "DARKROOM_MODELS_DIR" in caught.value.hint
