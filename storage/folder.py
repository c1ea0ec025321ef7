"""A store in a folder: for one machine, or several that mount the same file system.

Content type and metadata are not kept: a folder's readers go by the name's extension. File names that begin with a dot
are writes under way, and no keys. Only plain files are objects: whoever else may write to the folder could put a FIFO
there, which would hold its reader for ever.
"""

import contextlib
import errno
import os
import shutil
import stat
import time
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from darkroom.storage.errors import (
    KeyInvalid,
    ObjectNotFound,
    ObjectTooLarge,
    StorageBroken,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageReadOnly,
    StorageUnavailable,
)
from darkroom.storage.interface import MARK, StoredObject, check_lifetime
from darkroom.storage.keys import check_key, check_prefix

STALE_SECONDS = 24 * 3600.0  # a write under way for as long is one of a process that died

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM}
_IN_THE_WAY = {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP}
_NO_FILE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.ENODEV}  # the last two: sockets, devices


class FolderStore:
    """The ObjectStore of one folder; the folder is made at the first write.

    `mode` is that of files, whatever the umask; folders also get the right to enter for whoever may read.
    """

    def __init__(self, root: Path, mode: int = 0o640) -> None:
        self._root, self._mode = root.resolve(), mode

    def put(self, key: str, data: bytes | Path, *, content_type: str, metadata: Mapping[str, str] = {}) -> None:  # noqa: ARG002
        path = self._path(key)
        with BytesIO(data) if isinstance(data, bytes) else data.open("rb") as source:
            self._write(path, source)

    def get(self, key: str, *, limit: int | None = None) -> bytes:
        path = self._path(key)
        return _read(path, key, limit)

    def exists(self, key: str) -> bool:
        path = self._path(key)
        with _door("read", path):
            return path.is_file()

    def delete(self, key: str) -> None:
        path = self._path(key)
        with _door("delete", path), contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            path.unlink()
            self._remove_empty(path.parent)

    def url(self, key: str, seconds: int) -> str:
        check_lifetime(seconds)
        return self._path(key).as_uri()

    def list(self, prefix: str) -> Iterator[StoredObject]:
        check_prefix(prefix)
        start = self._root / prefix.rpartition("/")[0]
        return self._walk(start, prefix) if _is_real(start) else iter(())

    def check(self, *, write: bool = True, size: int = 0) -> None:
        with _door("use", self._root):
            if write:
                self._try(size)
            os.scandir(self._root).close()

    def mark(self) -> str | None:
        try:
            return _read(self._root / MARK, MARK, limit=1000).decode(errors="replace").strip()
        except ObjectNotFound:
            return None

    def make_mark(self, mark: str) -> None:
        self._write(self._root / MARK, BytesIO(f"{mark}\n".encode()))

    def __str__(self) -> str:
        return f"the folder {self._root}"

    def _path(self, key: str) -> Path:
        check_key(key)
        path = self._root / key
        if not _is_real(path):
            msg = f"the key {key!r} leads through a symbolic link"
            raise KeyInvalid(msg)
        return path

    def _write(self, path: Path, source: BinaryIO) -> None:
        with _door("write", path):
            temporary = self._start(path)
            try:
                with temporary.open("wb") as file:
                    shutil.copyfileobj(source, file, 1024 * 1024)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise

    def _try(self, size: int) -> None:
        probe = self._start(self._root / "probe")
        try:
            probe.write_bytes(bytes(size))
        finally:
            probe.unlink()

    def _start(self, path: Path) -> Path:
        """An empty file beside `path` to write to: only within one directory is replacing sure to be atomic."""
        temporary = path.with_name(f".{uuid.uuid4().hex}.part")
        for _ in range(20):
            # A delete may take the directory away as empty, in the middle of either step.
            with contextlib.suppress(FileNotFoundError, FileExistsError):
                return self._touched(temporary)
        return self._touched(temporary)

    def _touched(self, path: Path) -> Path:
        self._make_folder(path.parent)
        path.touch(exist_ok=False)
        _give_mode(path, self._mode)
        return path

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            inherited = folder.stat().st_mode & (stat.S_ISGID | stat.S_ISVTX)  # how a folder is shared by a group
            _give_mode(folder, self._mode | (self._mode & 0o444) >> 2 | inherited)

    def _remove_empty(self, folder: Path) -> None:
        with contextlib.suppress(OSError):
            for left in folder.glob(".*.part"):
                if time.time() - left.stat().st_mtime > STALE_SECONDS:
                    left.unlink()
            while folder != self._root:
                folder.rmdir()
                folder = folder.parent

    def _walk(self, folder: Path, prefix: str) -> Iterator[StoredObject]:
        for entry in _entries(folder):
            path = Path(entry.path)
            key = path.relative_to(self._root).as_posix()
            if entry.is_dir(follow_symlinks=False):
                if f"{key}/".startswith(prefix) or prefix.startswith(f"{key}/"):
                    yield from self._walk(path, prefix)
            elif key.startswith(prefix) and entry.is_file(follow_symlinks=False):
                yield from _stored(entry, key)


def _stored(entry: os.DirEntry[str], key: str) -> list[StoredObject]:
    """One object, or none: a file that goes away during the listing was not there."""
    with _door("list", Path(entry.path)), contextlib.suppress(FileNotFoundError):
        status = entry.stat(follow_symlinks=False)
        return [StoredObject(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))]
    return []


def _read(path: Path, key: str, limit: int | None) -> bytes:
    with _door("read", path), _found(key), _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if limit is not None and size > limit:
            msg = f"{key} has {size} bytes, over the limit of {limit}"
            raise ObjectTooLarge(msg)
        return file.read()


def _opened(path: Path) -> BinaryIO:
    """A plain file, to read; anything else is as if nothing were there, and does not hold the reader."""
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
    return os.fdopen(number, "rb")


def _give_mode(path: Path, mode: int) -> None:
    with contextlib.suppress(PermissionError):  # file systems that have none of their own: FAT, CIFS
        path.chmod(mode)


def _is_real(path: Path) -> bool:
    """Whether no symbolic link stands on the way; one could lead out of the folder."""
    return os.path.realpath(path) == str(path)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """The visible entries in the order of the keys below them, which is not that of the names: `a-b` < `a/b`."""
    with _door("list", folder), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
        return sorted(visible, key=lambda entry: f"{entry.name}/" if entry.is_dir() else entry.name)
    return []


@contextlib.contextmanager
def _found(key: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        msg = f"nothing is stored under {key}"
        raise ObjectNotFound(msg) from error


@contextlib.contextmanager
def _door(verb: str, path: Path) -> Iterator[None]:
    """The one place where the system's errors become ours."""
    try:
        yield
    except OSError as error:
        raise _ours(error, f"cannot {verb} {path}: {os.strerror(error.errno or 0)}") from error


def _ours(error: OSError, message: str) -> StorageError:
    if error.errno in _FULL:
        return StorageFull(message)
    if error.errno == errno.EROFS:
        return StorageReadOnly(message)
    if error.errno in _DENIED:
        return StorageDenied(message, hint="check who owns the folder, and as whom this process runs")
    if error.errno in _IN_THE_WAY:
        return StorageBroken(message, hint="a file stands where a folder is needed, or a folder where a file is")
    return StorageUnavailable(message, hint="check the folder that DARKROOM_STORAGE_URL names")
