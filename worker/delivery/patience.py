"""A job's patience with its store: what was made waits on the local disk, and is stored when the store is back."""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import structlog

from darkroom.storage import InputError, StorageError
from darkroom.worker.delivery.attempt import OutOfPatience
from darkroom.worker.delivery.storekeeper import FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS, StoreKeeper

T = TypeVar("T")
ASK_SECONDS = 0.5  # between two questions whether to wait on
PREFIX = "darkroom-waiting-"  # of files that wait; then the process's id


class PatientStore:
    """The store of a job, for which its threads wait until it could not be used for `patience` seconds."""

    def __init__(
        self,
        keeper: StoreKeeper,
        patience: float,
        keep_on: Callable[[], None],
        tell: Callable[[StorageError], None] = lambda _: None,
    ) -> None:
        """`keep_on` is asked again and again, and raises where waiting is in vain; `tell` hears once that it began."""
        self._keeper, self._patience, self._keep_on, self._tell = keeper, patience, keep_on, tell
        self._since: float | None = None
        self._telling, self._told = threading.Lock(), False

    def put(self, key: str, data: bytes, content_type: str, sha256: str) -> None:
        """Stores an object; while the store cannot be used it lies in the folder for temporary files.

        Raises StorageError for a fault that is this object's own, OutOfPatience, and what `keep_on` raises.
        """
        store, about = self._keeper.store, {"sha256": sha256}
        try:
            store.put(key, data, content_type=content_type, metadata=about)
        except StorageError as error:
            if self._keeper.heard(error, len(data)) is None and not _passes(error):
                raise
            self._since = self._since or time.monotonic()
        else:
            return
        with _spooled(data) as waiting:
            self.retry(lambda: store.put(key, waiting, content_type=content_type, metadata=about), size=len(data))

    def get(self, key: str, *, limit: int | None = None) -> bytes:
        """An object's bytes, so many at most. Raises as `retry`."""
        return self.retry(lambda: self._keeper.store.get(key, limit=limit))

    def exists(self, key: str) -> bool:
        """Whether something lies under the key. Raises as `retry`."""
        return self.retry(lambda: self._keeper.store.exists(key))

    def retry(self, action: Callable[[], T], size: int = 0) -> T:
        """What an action on the store returns once it does not fail. Raises as `put`."""
        wait = FIRST_WAIT_SECONDS
        while True:
            try:
                found = action()
            except StorageError as error:
                trouble = self._keeper.heard(error, size)
                if trouble is None and not _passes(error):
                    raise
                self._endure(error, trouble, wait)
                wait = min(wait * 2, LONGEST_WAIT_SECONDS)
            else:
                if self._since is not None:
                    self._keeper.look()  # so that jobs are taken again at once
                self._since, self._told = None, False
                return found

    def _endure(self, error: StorageError, trouble: StorageError | None, seconds: float) -> None:
        """Waits until the store can be used; where nothing is wrong with it as a whole, so many seconds."""
        since = self._since = self._since or time.monotonic()
        if trouble:
            self._tell_once(trouble)
        while time.monotonic() < since + self._patience:
            self._keep_on()
            if trouble is None:
                return time.sleep(seconds)
            if self._keeper.wait(ASK_SECONDS):
                return None
        if trouble is None:
            raise error
        raise OutOfPatience(trouble.code) from error

    def _tell_once(self, trouble: StorageError) -> None:
        with self._telling:
            told, self._told = self._told, True
        if not told:
            self._tell(trouble)


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
