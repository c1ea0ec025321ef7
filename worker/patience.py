"""A store that may be away: what was made waits on the local disk and is stored when it is back."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from darkroom.storage import ObjectStore, StorageError

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 5.0


class PatientStore:
    """Puts objects, for `patience` seconds where the store's errors may pass by themselves."""

    def __init__(self, store: ObjectStore, patience: float) -> None:
        self._store, self._patience = store, patience

    def put(self, key: str, data: bytes, content_type: str, sha256: str, keep_on: Callable[[], None]) -> None:
        """Stores an object. `keep_on` is asked while it waits, and raises where waiting is in vain. StorageError."""
        try:
            self._store.put(key, data, content_type=content_type, metadata={"sha256": sha256})
        except StorageError as error:
            if not error.retryable:
                raise
        else:
            return
        with tempfile.NamedTemporaryFile(prefix="darkroom-waiting-") as spooled:
            spooled.write(data)
            spooled.flush()
            del data  # on the disk it costs no memory
            self._put_when_back(key, Path(spooled.name), content_type, sha256, keep_on)

    def _put_when_back(self, key: str, path: Path, content_type: str, sha256: str, keep_on: Callable[[], None]) -> None:
        deadline, wait = time.monotonic() + self._patience, FIRST_WAIT_SECONDS
        while True:
            keep_on()
            time.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT_SECONDS)
            try:
                return self._store.put(key, path, content_type=content_type, metadata={"sha256": sha256})
            except StorageError as error:
                if not error.retryable or time.monotonic() > deadline:
                    raise
                structlog.get_logger().warning("job.not_stored_yet", key=key, code=error.code)
