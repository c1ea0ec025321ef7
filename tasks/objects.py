"""Objects from the producer's side: finding the store, uploading inputs, deleting what a job made.

The task API imports no storage. It finds it by its entry point (group `darkroom.storage`, name `open_store`), which an
installed darkroom has, or is given one.
"""

import hashlib
from importlib.metadata import entry_points
from pathlib import Path

from darkroom.tasks.errors import Fault, InvalidRequest, StorageNotConfigured
from darkroom.tasks.job import Job, ObjectStore, stored

# By content, as the reader does: (offset, magic bytes, file name's ending, content type).
_FORMATS = (
    (0, b"\x89PNG\r\n\x1a\n", "png", "image/png"),
    (0, b"\xff\xd8\xff", "jpg", "image/jpeg"),
    (8, b"WEBP", "webp", "image/webp"),
)


class StoreFinder:
    """Opens the store once, when first needed."""

    def __init__(self, given: ObjectStore | None) -> None:
        self._store = given

    def open(self) -> ObjectStore:
        """The store. Raises StorageNotConfigured, StorageFailed."""
        if self._store is None:
            self._store = _configured_store()
        return self._store


def _configured_store() -> ObjectStore:
    found = [point for point in entry_points(group="darkroom.storage") if point.name == "open_store"]
    if not found:
        raise StorageNotConfigured("the storage package is not installed")
    try:
        opener = found[0].load()
    except ImportError as error:
        raise StorageNotConfigured(f"storage cannot be used: {error}") from None
    store: ObjectStore = stored(opener)
    return store


def upload(store: ObjectStore, picture: str | Path | bytes, tenant: str) -> str:
    """Stores a picture under `inputs/{tenant}/`, named by its digest; the same picture is stored once."""
    data = picture if isinstance(picture, bytes) else _read(Path(picture))
    found = [f for f in _FORMATS if data[f[0] : f[0] + len(f[1])] == f[1]]
    if not found:
        raise InvalidRequest([Fault("image", "input_not_an_image", "is no PNG, JPEG or WebP")])
    _, _, ending, content_type = found[0]
    digest = hashlib.sha256(data).hexdigest()
    key = f"inputs/{tenant}/{digest}.{ending}"
    stored(lambda: store.put(key, data, content_type=content_type, metadata={"sha256": digest}))
    return key


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest([Fault("image", "input_missing", f"{path}: {error.strerror}")]) from None


def delete_objects(job: Job, finder: StoreFinder) -> None:
    """Deletes everything under the job's prefix. A job that made nothing needs no store."""
    try:
        store = finder.open()
    except StorageNotConfigured:
        if job.images or job.result:
            raise
        return
    stored(lambda: _delete_all(store, f"{job.id}/"))


def _delete_all(store: ObjectStore, prefix: str) -> None:
    for item in list(store.list(prefix)):
        store.delete(item.key)
