"""Every file of a model held against the digests that were pinned, before any weight is read."""

import hashlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from darkroom.worker.errors import ModelCorrupt, ModelDigestMismatch, ModelMissing
from darkroom.worker.models.lockfile import LOCAL, LockedFile, LockedModel
from darkroom.worker.models.opening import open_regular

#: Called with the bytes done and the bytes in all, from any thread, one call at a time.
Progress = Callable[[int, int], None]

_CHUNK = 8 * 1024 * 1024
_THREADS = 4  # hashing releases the interpreter lock; more than a disk's worth of readers gains nothing


def hash_files(files: Mapping[str, Path], progress: Progress | None = None) -> dict[str, LockedFile]:
    """SHA-256 and size of every file, several at a time. Raises OSError."""
    counter = ByteCounter(sum(path.stat().st_size for path in files.values()), progress)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="hash") as pool:
        hashed = list(pool.map(lambda path: _hash(path, counter), files.values()))
    return dict(zip(files, hashed, strict=True))


def verify(
    name: str, files: Mapping[str, Path], locked: LockedModel, progress: Progress | None = None
) -> dict[str, str]:
    """Digests of `files`, which are all that loading model `name` would open.

    Raises ModelMissing for a pinned file that is not there, ModelCorrupt for one of the wrong length, and
    ModelDigestMismatch for one that was changed or that was never pinned.
    """
    _check_names(name, files, locked)
    for file, path in files.items():
        _check_size(name, file, path.stat().st_size, locked)
    hashed = hash_files(files, progress)
    wrong = [file for file in files if hashed[file].sha256 != locked.files[file].sha256]
    if wrong:
        raise ModelDigestMismatch(f"model {name}: {_few(wrong)} changed since the digests were pinned")
    return {file: found.sha256 for file, found in hashed.items()}


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _check_names(name: str, files: Mapping[str, Path], locked: LockedModel) -> None:
    missing = sorted(locked.files.keys() - files.keys())
    if missing:
        raise ModelMissing(f"model {name}: {_few(missing)} pinned but not there")
    unpinned = sorted(files.keys() - locked.files.keys())
    if unpinned:
        raise ModelDigestMismatch(f"model {name}: {_few(unpinned)} would be loaded, but never pinned")


def _check_size(name: str, file: str, found: int, locked: LockedModel) -> None:
    pinned = locked.files[file].bytes
    if found == pinned:
        return
    if locked.revision == LOCAL:  # the operator's own file: an edit is likelier than a broken download
        raise ModelDigestMismatch(f"model {name}: {file} changed since the digests were pinned")
    raise ModelCorrupt(f"model {name}: {file} is {found} bytes long where {pinned} were pinned")


class ByteCounter:
    """Adds up bytes of several threads for `progress`."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress, self._done = total, progress, 0
        self._guard = threading.Lock()

    def add(self, count: int) -> None:
        """Count them, and tell; more than there should be are not told."""
        if self._progress:
            with self._guard:
                self._done += count
                self._progress(min(self._done, self._total), self._total)


def _hash(path: Path, counter: ByteCounter) -> LockedFile:
    digest, size, buffer = hashlib.sha256(), 0, memoryview(bytearray(_CHUNK))
    with open_regular(path) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
            size += count
            counter.add(count)
    return LockedFile(bytes=size, sha256=digest.hexdigest())
