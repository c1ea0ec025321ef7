"""A store that may be away: what was made waits on the local disk, and is stored when it is back."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import structlog

from darkroom.storage import InputError, ObjectStore, StorageError

T = TypeVar("T")
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 2.0
PREFIX = "darkroom-waiting-"  # of files that wait; then the process's id


class PatientStore:
    """The store of a job, for which its threads wait until it has been away for `patience` seconds."""

    def __init__(self, store: ObjectStore, patience: float, keep_on: Callable[[], None]) -> None:
        """`keep_on` is asked before each new try, and raises where waiting is in vain."""
        self._store, self._patience, self._keep_on = store, patience, keep_on
        self._away_since: float | None = None

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
        with _spooled(data) as waiting:
            self.retry(lambda: self._store.put(key, waiting, content_type=content_type, metadata=about))

    def retry(self, action: Callable[[], T]) -> T:
        """What an action on the store returns once it does not fail. Raises as `put`."""
        wait = FIRST_WAIT_SECONDS
        while True:
            try:
                found = action()
            except StorageError as error:
                now = time.monotonic()
                self._away_since = self._away_since or now
                if not _passes(error) or now >= self._away_since + self._patience:
                    raise
                structlog.get_logger().warning("storage.away", code=error.code, error=error.message)
            else:
                self._away_since = None
                return found
            self._keep_on()
            time.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT_SECONDS)


@contextmanager
def _spooled(data: bytes) -> Iterator[Path | bytes]:
    """The file that the bytes wait in; the bytes themselves where the disk is full."""
    name = f"{PREFIX}{os.getpid()}-"
    with ExitStack() as files:
        try:
            spooled = files.enter_context(tempfile.NamedTemporaryFile(prefix=name))
            spooled.write(data)
            spooled.flush()
            waiting: Path | bytes = Path(spooled.name)
        except OSError as error:
            structlog.get_logger().warning("storage.waits_in_memory", error=str(error))
            waiting = data
        yield waiting


def forget_the_dead() -> None:
    """Deletes what waited for processes of this machine that are no more: their jobs are made again."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        pid = path.name.removeprefix(PREFIX).partition("-")[0]
        if not pid.isdecimal() or not _lives(int(pid)):
            with suppress(OSError):
                path.unlink()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # the latter: a number that no process has
        return False
    except PermissionError:  # it is another user's
        pass
    return True


def _passes(error: StorageError) -> bool:
    """What may pass while the job waits; somebody else's server, where an input lies, is tried again later instead."""
    return error.retryable and not isinstance(error, InputError)
