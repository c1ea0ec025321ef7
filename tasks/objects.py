"""Objects from the producer's side: finding the store, uploading inputs, deleting what a job made.

The task API imports no storage. It finds it by its entry point (group `darkroom.storage`, name `open_store`), which an
installed darkroom has, or is given one.
"""

from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from darkroom.tasks.errors import Fault, InvalidRequest, StorageFailed, StorageNotConfigured
from darkroom.tasks.job import Job
from darkroom.tasks.marks import expecting
from darkroom.tasks.results import ObjectStore, stored
from darkroom.tasks.settings import TaskSettings


class StoreFinder:
    """Opens the store once, when first needed: the one that Redis knows, or the one that was given, as it is."""

    def __init__(self, given: ObjectStore | None, settings: TaskSettings) -> None:
        self._store, self._settings = given, settings

    def open(self) -> ObjectStore:
        """The store. Raises StorageNotConfigured, StorageFailed."""
        if self._store is None:
            self._store = _configured_store(self._settings)
        return self._store


def _configured_store(settings: TaskSettings) -> ObjectStore:
    opener = _of_storage("open_store")
    try:
        store: ObjectStore = stored(lambda: opener(expected=expecting(settings)))
    except StorageFailed as error:
        if error.reason == StorageNotConfigured.code:
            raise StorageNotConfigured(error.message) from None
        raise
    return store


def _of_storage(name: str) -> Any:
    found = [point for point in entry_points(group="darkroom.storage") if point.name == name]
    if not found:
        raise StorageNotConfigured("the storage package is not installed")
    try:
        return found[0].load()
    except ImportError as error:
        raise StorageNotConfigured(f"storage cannot be used: {error}") from None


def upload(store: ObjectStore, picture: str | Path | bytes, tenant: str) -> str:
    """Stores a picture under `inputs/{tenant}/`, named by its digest; the same picture is stored once.

    Raises InvalidRequest for what is no picture or no tenant's name, StorageFailed.
    """
    given = picture if isinstance(picture, bytes) else Path(picture)
    store_input = _of_storage("store_input")
    try:
        key: str = stored(lambda: store_input(given, tenant=tenant, store=store))
    except StorageFailed as error:
        if error.reason.startswith("input_"):
            raise InvalidRequest([Fault("image", error.reason, error.message)]) from None
        if error.reason == "key_invalid":
            raise InvalidRequest([Fault("tenant", "invalid_value", error.message)]) from None
        raise
    return key


def delete_objects(job_id: str, finder: StoreFinder, *, made: bool) -> None:
    """Deletes everything under the job's prefix. A job that made nothing needs no store."""
    try:
        store = finder.open()
    except StorageNotConfigured:
        if made:
            raise
        return
    stored(lambda: _delete_all(store, f"{job_id}/"))


def named_by(job: Job) -> set[str]:
    """Keys that the record names: what was made."""
    return set(job.object_keys)


def leftovers(job: Job, store: ObjectStore) -> list[str]:
    """Keys under the job's prefix that its record does not name: of attempts that came to nothing.

    None while the job may still be worked on.
    """
    if not job.state.final:
        return []
    named = named_by(job)
    return [item.key for item in store.list(f"{job.id}/") if item.key not in named]


def _delete_all(store: ObjectStore, prefix: str) -> None:
    for item in list(store.list(prefix)):
        store.delete(item.key)
