"""What only a folder has: a disk that fills up, owners, links, and files in the way."""

import contextlib
import os
import resource
import socket
import stat
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from darkroom.storage import ObjectStore, StorageSettings, errors, open_store


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> ObjectStore:
    return open_store(StorageSettings(storage_url=root.as_uri()))


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Root may write anywhere; these tests need somebody who may not."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)


@pytest.fixture
def full_disk() -> Iterator[None]:
    """The system refuses to let any file grow over 64 kB, in the way that a full disk or a quota does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Disk:
    """A real file system of 64 kB, of the test's own."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def mount(self, *options: str) -> None:
        place, size = str(self.place), "size=64k,mode=0755"
        subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join([size, *options]), "none", place], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.place)], check=True)


@pytest.fixture
def disk(root: Path) -> Iterator[Disk]:
    root.mkdir()
    disk = Disk(root)
    try:
        disk.mount()
    except (subprocess.CalledProcessError, FileNotFoundError):
        pytest.skip("nothing may be mounted here")
    yield disk
    subprocess.run(["umount", "-q", str(root)], check=False)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def put(store: ObjectStore, key: str, data: bytes = b"x") -> None:
    store.put(key, data, content_type="image/png")


@pytest.mark.usefixtures("full_disk")
def test_disk_full_leaves_what_was_there(store: ObjectStore, root: Path) -> None:
    put(store, "a/b", b"the old")
    with pytest.raises(errors.StorageFull, match="a/b") as caught:
        put(store, "a/b", bytes(100_000))
    assert "free space" in caught.value.hint
    assert store.get("a/b") == b"the old"
    assert names(root / "a") == ["b"]


def test_a_disk_that_is_full(store: ObjectStore, disk: Disk, root: Path) -> None:
    put(store, "a", bytes(50_000))
    for use in (lambda: put(store, "b", bytes(50_000)), lambda: store.check(size=50_000)):
        with pytest.raises(errors.StorageFull) as caught:
            use()
        assert caught.value.retryable
    store.check()  # for so little there is room
    assert names(root) == ["a"]
    store.delete("a")
    store.check(size=50_000)


def test_a_disk_that_is_read_only(store: ObjectStore, disk: Disk) -> None:
    put(store, "a")
    disk.mount("remount", "ro")
    for use in (lambda: put(store, "b"), store.check, lambda: store.delete("a"), lambda: store.make_mark("m")):
        with pytest.raises(errors.StorageReadOnly) as caught:
            use()
        assert (caught.value.code, caught.value.retryable) == ("storage_read_only", True)
    store.check(write=False)
    assert store.get("a") == b"x"


def test_a_disk_that_is_not_mounted(root: Path, disk: Disk) -> None:
    store = open_store(StorageSettings(storage_url=root.as_uri()), expected=lambda _: "mine")
    store.make_mark("mine")
    put(store, "a")
    disk.unmount()
    for use in (lambda: put(store, "b"), lambda: store.get("a"), lambda: store.exists("a"), lambda: store.list("")):
        with pytest.raises(errors.StorageAway, match="has no mark"):
            use()
    assert names(root) == []


def test_folder_of_somebody_else(store: ObjectStore, root: Path, request: pytest.FixtureRequest) -> None:
    put(store, "a/b")
    for path, mode in ((root / "a" / "b", 0o000), (root / "a", 0o555), (root, 0o555)):
        path.chmod(mode)
    request.getfixturevalue("unprivileged")
    # pytest's own folders may be closed to others, which is refused just the same.
    for call in (lambda: put(store, "c"), lambda: put(store, "a/b"), lambda: store.get("a/b"), store.check):
        with pytest.raises(errors.StorageDenied, match=str(root)) as caught:
            call()
        assert "owns" in caught.value.hint


def test_folder_that_is_not_there_yet(store: ObjectStore, root: Path) -> None:
    assert list(store.list("")) == []
    with pytest.raises(errors.ObjectNotFound):
        store.get("a")
    with pytest.raises(errors.StorageUnavailable, match="No such file"):
        store.check(write=False)
    store.check()
    assert root.is_dir()


def test_folder_that_is_a_file(store: ObjectStore, root: Path) -> None:
    root.write_text("in the way")
    for call in (lambda: put(store, "a"), store.check, lambda: store.check(write=False)):
        with pytest.raises(errors.StorageBroken, match="stands where"):
            call()
    assert list(store.list("")) == []


def test_key_below_a_key(store: ObjectStore) -> None:
    put(store, "a")
    put(store, "b/c")
    for key in ("a/b", "b"):
        with pytest.raises(errors.StorageBroken, match="stands where"):
            put(store, key)
    with pytest.raises(errors.ObjectNotFound):
        store.get("b")
    store.delete("b")
    assert [found.key for found in store.list("")] == ["a", "b/c"]


@pytest.mark.parametrize("target", ["secret", "."])
def test_links_lead_nowhere(store: ObjectStore, root: Path, tmp_path: Path, target: str) -> None:
    """A link could have been put there by whoever else may write to the folder."""
    (tmp_path / "secret").write_text("not yours")
    put(store, "inputs/me/a")
    (root / "inputs" / "me" / "link").symlink_to(tmp_path / target)
    for key in ("inputs/me/link", "inputs/me/link/secret"):
        for use in (store.get, store.exists, store.delete, lambda key: put(store, key)):
            with pytest.raises(errors.KeyInvalid, match="symbolic link"):
                use(key)
    assert [found.key for found in store.list("inputs/me/")] == ["inputs/me/a"]
    assert list(store.list("inputs/me/link/")) == []
    assert (tmp_path / "secret").read_text() == "not yours"


def test_links_in_a_circle(store: ObjectStore, root: Path) -> None:
    root.mkdir()
    (root / "round").symlink_to(root / "round")
    for key in ("round", "round/below"):
        with pytest.raises(errors.StorageBroken):
            store.get(key)


def test_the_folder_itself_may_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "big-disk").mkdir()
    root.symlink_to(tmp_path / "big-disk")
    store = open_store(StorageSettings(storage_url=root.as_uri()))
    put(store, "a/b", b"there")
    assert (tmp_path / "big-disk" / "a" / "b").read_bytes() == b"there"


def test_writes_under_way_are_not_listed(store: ObjectStore, root: Path) -> None:
    put(store, "a/b")
    (root / "a" / ".0123.part").write_bytes(b"half")
    assert [found.key for found in store.list("")] == ["a/b"]


def test_delete_takes_empty_folders_along(store: ObjectStore, root: Path) -> None:
    put(store, "a/b/c")
    put(store, "a/d")
    store.delete("a/b/c")
    assert names(root / "a") == ["d"]
    store.delete("a/d")
    assert names(root) == []


def test_put_while_its_folder_is_taken_away(store: ObjectStore) -> None:
    """Each delete leaves the folders empty and removes them, often between two steps of a neighbour's put."""

    def churn(name: str) -> None:
        for _ in range(150):
            put(store, f"deep/er/{name}")
            store.delete(f"deep/er/{name}")

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(churn, "abc"))
    assert list(store.list("")) == []


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_files_are_for_owner_and_group(store: ObjectStore, root: Path, umask: int) -> None:
    """Whatever the umask: what a stray one hides from the group, a producer could not read."""
    mask = os.umask(umask)
    try:
        put(store, "a/b")
    finally:
        os.umask(mask)
    assert [path.stat().st_mode & 0o777 for path in (root / "a" / "b", root / "a", root)] == [0o640, 0o750, 0o750]


def test_modes_by_setting(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_STORAGE_URL", root.as_uri())
    monkeypatch.setenv("DARKROOM_STORAGE_MODE", "0664")
    put(open_store(), "a/b")
    assert [path.stat().st_mode & 0o777 for path in (root / "a" / "b", root / "a")] == [0o664, 0o775]


def test_folders_of_a_group_stay_its_own(store: ObjectStore, root: Path) -> None:
    root.mkdir()
    root.chmod(0o2770)
    put(store, "a/b")
    assert [path.stat().st_mode & 0o7777 for path in (root, root / "a")] == [0o2770, 0o2750]


@pytest.mark.parametrize("mode", ["0755", "640x", "0240", "rw-r-----", "0641"])
def test_bad_modes(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setenv("DARKROOM_STORAGE_MODE", mode)
    with pytest.raises(errors.StorageConfigInvalid, match=r"DARKROOM_STORAGE_MODE.*such as 0640"):
        open_store()


def test_what_is_no_file_holds_no_reader(store: ObjectStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A FIFO without a writer, a socket, a terminal: reading would wait for ever, or do something to a device."""
    folder = root / "inputs" / "me"
    put(store, "inputs/me/a")
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(folder)  # a socket's path has few characters
        listener.bind("socket")
        with contextlib.suppress(PermissionError):
            os.mknod(folder / "device", stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero, which never ends
        for key in (f"inputs/me/{path.name}" for path in folder.iterdir() if path.name != "a"):
            assert not store.exists(key)
            with pytest.raises(errors.ObjectNotFound):
                store.get(key)
    assert [found.key for found in store.list("")] == ["inputs/me/a"]


@pytest.mark.parametrize(
    "url", ["file://relative/folder", "file:///", "file:", "http://host/x", "/plain/path", "bucket"]
)
def test_bad_storage_urls(url: str) -> None:
    with pytest.raises(errors.StorageConfigInvalid, match="DARKROOM_STORAGE_URL"):
        open_store(StorageSettings(storage_url=url))
