"""A store that may be away: what was made waits on the local disk, and is stored when it is back."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import structlog

from darkroom.storage import InputError, ObjectStore, StorageError

T = TypeVar("T")
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 2.0


class PatientStore:
    """The store of a job, which waits `patience` seconds in all where an error may pass by itself."""

    def __init__(self, store: ObjectStore, patience: float, keep_on: Callable[[], None]) -> None:
        """`keep_on` is asked before each new try, and raises where waiting is in vain."""
        self._store, self._patience, self._keep_on = store, patience, keep_on

    def put(self, key: str, data: bytes, content_type: str, sha256: str) -> None:
        """Stores an object; while the store is away it lies in the folder for temporary files.

        Raises StorageError, and what `keep_on` raises.
        """
        about = {"sha256": sha256}
        try:
            self._store.put(key, data, content_type=content_type, metadata=about)
        except StorageError as error:
            if not _passes(error):
                raise
        else:
            return
        with tempfile.NamedTemporaryFile(prefix="darkroom-waiting-") as spooled:
            spooled.write(data)
            spooled.flush()
            path = Path(spooled.name)
            self.retry(lambda: self._store.put(key, path, content_type=content_type, metadata=about))

    def retry(self, action: Callable[[], T]) -> T:
        """What an action on the store returns once it does not fail. Raises as `put`."""
        deadline, wait = time.monotonic() + self._patience, FIRST_WAIT_SECONDS
        while True:
            try:
                return action()
            except StorageError as error:
                if not _passes(error) or time.monotonic() >= deadline:
                    raise
                structlog.get_logger().warning("storage.away", code=error.code, error=error.message)
            self._keep_on()
            time.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT_SECONDS)


def _passes(error: StorageError) -> bool:
    """What may pass while the job waits; somebody else's server, where an input lies, is tried again later instead."""
    return error.retryable and not isinstance(error, InputError)
