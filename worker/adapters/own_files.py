"""Files of LoRAs that belong to tenants: fetched to this machine when a job wants them, kept while there is room."""

import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Self

from darkroom.worker.errors import AdapterDigestMismatch, AdapterNotKept
from darkroom.worker.settings import WorkerSettings

FOLDER = ".own-loras"  # beside the models, whose names begin with no dot
ROOM = 8 << 30  # bytes; what is in use stays in any case
_ABANDONED = 24 * 3600.0  # seconds after which a file that was never finished belongs to a process that is no more


class OwnFiles:
    """By digest, so that names of two tenants do not collide. Shared by the threads and processes of a machine.

    Who uses a file has a shared lock on it (flock), and only what nobody has locked is deleted.
    """

    def __init__(self, folder: Path, room: int = ROOM) -> None:
        self._folder, self._room = folder, room

    @classmethod
    def of(cls, settings: WorkerSettings) -> Self:
        """Those of this machine."""
        return cls(settings.models_dir / FOLDER)

    @contextmanager
    def held(self, sha256: str, fetch: Callable[[], bytes]) -> Iterator[Path]:
        """In the context the file of this digest lies there; `fetch` is asked for its bytes where it does not yet.

        Raises AdapterDigestMismatch for other bytes, AdapterNotKept where the disk does not take them, what `fetch`
        raises.
        """
        path = self._folder / f"{sha256}.safetensors"
        while (file := _locked(path)) is None:
            data = fetch()
            if (found := hashlib.sha256(data).hexdigest()) != sha256:
                raise AdapterDigestMismatch(
                    f"the file in the store has the SHA-256 {found}, and {sha256} was asked for"
                )
            self._write(path, data)
        try:
            yield path
        except AdapterDigestMismatch:  # it was changed here: the next job fetches it anew
            path.unlink(missing_ok=True)
            raise
        finally:
            file.close()

    @contextmanager
    def passing(self, data: bytes) -> Iterator[Path]:
        """In the context a file of these bytes lies there, which nobody else is to find. Raises AdapterNotKept.

        What a process leaves behind that is killed meanwhile is deleted when it is a day old.
        """
        with _disk():
            self._folder.mkdir(parents=True, exist_ok=True)
            self._make_room(len(data))
            number, name = tempfile.mkstemp(dir=self._folder, suffix=".part")
        try:
            with _disk(), os.fdopen(number, "wb") as file:
                file.write(data)
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def _write(self, path: Path, data: bytes) -> None:
        with _disk():
            self._folder.mkdir(parents=True, exist_ok=True)
            self._make_room(len(data))
            _put(path, data)

    def _make_room(self, size: int) -> None:
        """What was used longest ago leaves first."""
        found = []
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):  # another process makes room, too
                facts = path.stat()
                if path.suffix == ".safetensors":
                    found.append((facts.st_mtime, facts.st_size, path))
                elif facts.st_mtime < time.time() - _ABANDONED:
                    path.unlink()
        taken = size + sum(size for _, size, _ in found)
        for _, one, path in sorted(found):
            if taken <= self._room:
                return
            taken -= one if _deleted(path) else 0


@contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AdapterNotKept(f"a tenant's LoRA cannot be kept on this worker: {error.strerror}") from None


def _locked(path: Path) -> BufferedReader | None:
    """The file, which stays until this is closed, as the one that was used last; None where none lies there."""
    with _disk():
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return None
        fcntl.flock(file, fcntl.LOCK_SH)
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                os.utime(path)
                return file
        file.close()  # it was deleted between the two
        return None


def _deleted(path: Path) -> bool:
    with suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        path.unlink()
    return True


def _put(path: Path, data: bytes) -> None:
    """Whole or not at all, whatever happens to the machine."""
    number, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(number, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
