"""Whether the worker's store can be used: what is wrong with it concerns all jobs, and is charged to none.

A job that fails on the store has it looked at. Where the store as a whole fails, the worker takes no new jobs, those
that run wait (`patience.py`), and the store is looked at again and again until it can be used.
"""

import threading
import time

import structlog

from darkroom.storage import InputError, ObjectStore, StorageError
from darkroom.storage.errors import (
    KeyInvalid,
    ObjectCorrupt,
    ObjectNotFound,
    ObjectTooLarge,
    StorageAway,
    StorageConfigInvalid,
    StorageFull,
    StorageReadOnly,
    StorageUnavailable,
)
from darkroom.storage.marks import MarkedStore
from darkroom.tasks.errors import QueueError
from darkroom.tasks.marks import agree, known_mark
from darkroom.tasks.redis_io import BlockingIO
from darkroom.worker.delivery.duty import Duty

LOOK_SECONDS = 10.0  # between two looks at a store that can be used
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 2.0  # between two looks at one that cannot
CLOSING_SECONDS = 0.5  # for a look under way: a store that hangs keeps no process

#: Of the store as a whole.
_ALL = (StorageAway, StorageFull, StorageReadOnly)
#: Of one object. What is in neither may be of both kinds: a look tells.
_ONE = (InputError, KeyInvalid, ObjectNotFound, ObjectTooLarge, ObjectCorrupt)


class StoreKeeper(Duty):
    """Looks after the store of all jobs, from any thread."""

    def __init__(self, io: BlockingIO, store: ObjectStore) -> None:
        super().__init__("store", FIRST_WAIT_SECONDS)
        self.store = MarkedStore(store, self._expected)
        self.trouble: StorageError | None = None  # why it cannot be used
        self._io = io
        self._mark: str | None = None
        self._seen = False  # the store, with its mark
        self._usable = threading.Event()
        self._usable.set()
        self._looking = threading.Lock()
        self._looked_at = self._next = self._since = 0.0
        self._wait = FIRST_WAIT_SECONDS
        self._size = 0  # bytes for which there must be room
        self._log = structlog.get_logger()

    def begin(self) -> None:
        """The first look. A store that Redis knows is waited for, however it fails.

        Raises StorageError where a setting is wrong: what refuses was never the store of these jobs.
        """
        trouble = self.look()
        if trouble is None:
            return
        try:
            known = self._io.run(known_mark()) is not None
        except QueueError:
            known = True  # it may be
        if isinstance(trouble, StorageConfigInvalid) or not (known or trouble.retryable):
            raise trouble

    def heard(self, error: StorageError, size: int = 0) -> StorageError | None:
        """What is wrong with the store as a whole, after an operation failed that needed room for `size` bytes.

        None where it is the operation's own fault.
        """
        if isinstance(error, StorageFull):
            self._size = max(self._size, size)
        if isinstance(error, _ALL):
            self._found(error)
            return error
        return None if isinstance(error, _ONE) else self.look()

    def look(self, *, write: bool = True) -> StorageError | None:
        """What is wrong with the store now; None where it can be used."""
        asked = time.monotonic()
        with self._looking:
            if self._looked_at <= asked:  # else another thread has begun to look since
                self._looked_at = time.monotonic()
                self._found(self._fault(write=write))
        return self.trouble

    def wait(self, seconds: float) -> bool:
        """Until the store can be used, so long at most; whether it can."""
        return self._usable.wait(seconds)

    def round(self) -> None:
        """A look, if it is time for one."""
        if time.monotonic() < self._next:
            return
        if self.look(write=self.trouble is not None):
            self._next = time.monotonic() + self._wait
            self._wait = min(self._wait * 2, LONGEST_WAIT_SECONDS)
        else:
            self._next, self._wait = time.monotonic() + LOOK_SECONDS, FIRST_WAIT_SECONDS

    def close(self) -> None:
        """Ends the looks; one under way is left to itself."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(CLOSING_SECONDS)

    def _fault(self, *, write: bool) -> StorageError | None:
        try:
            self.store.check(write=write, size=self._size)
        except StorageError as error:
            return error
        except Exception as error:  # noqa: BLE001 - the next look must come
            self._log.exception("storage.look_failed")
            return StorageUnavailable(f"{type(error).__name__}: {error}")
        self._seen = True
        return None

    def _found(self, trouble: StorageError | None) -> None:
        """Keeps what was found; a change is said once."""
        before, self.trouble = self.trouble, trouble
        if trouble is None:
            self._size = 0
            self._usable.set()
            if before is not None:
                self._log.info("storage.back", after_s=round(time.monotonic() - self._since, 1))
            return
        self._usable.clear()
        if before is None:
            self._since, self._next, self._wait = time.monotonic(), 0.0, FIRST_WAIT_SECONDS
        if before is None or before.code != trouble.code:
            self._log.warning("storage.away", code=trouble.code, error=trouble.message, hint=trouble.hint)

    def _expected(self, store: ObjectStore) -> str | None:
        """The mark by Redis; while it is away, the one that it had."""
        try:
            self._mark = self._io.run(agree(store, starting=not self._seen))
        except QueueError as error:
            if self._mark is None:
                msg = f"which store is the one cannot be known while Redis is away: {error.message}"
                raise StorageUnavailable(msg, hint=error.hint) from error
        return self._mark
