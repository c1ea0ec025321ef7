"""A store that knows itself: by its mark it is told from an empty place that has its name.

A folder whose disk is not mounted looks like an empty store, and would be written to. So a store has a mark of its own,
an object with an id, and whoever opens it says which id is expected. Without it, or with another, the store is away.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from darkroom.storage.errors import ObjectNotFound, StorageAway
from darkroom.storage.interface import ObjectStore, StoredObject

#: Says which mark a store must have; it may give it one. None: this cannot be the store.
Expected = Callable[[ObjectStore], str | None]

EXPECTED_SECONDS = 10.0  # after which it is asked for anew: an operator may have changed the store


class MarkedStore:
    """An ObjectStore that raises StorageAway where it would write to, list or miss something in the wrong place.

    An object that is there is read without a question: its key names its content or its job.
    """

    def __init__(self, inner: ObjectStore, expected: Expected) -> None:
        self._inner, self._ask = inner, expected
        self._expected: str | None = None
        self._asked_at = 0.0

    def check_mark(self) -> None:
        """Raises StorageAway unless the store has the mark that is expected; and as `ObjectStore.get`."""
        found = self._inner.mark()
        if found is None or found != self._expected or time.monotonic() > self._asked_at + EXPECTED_SECONDS:
            self._expected, self._asked_at = self._ask(self._inner), time.monotonic()
            found = self._inner.mark()
        if self._expected is None:
            msg = f"{self._inner} is not the store of the jobs in Redis: what their records name does not lie there"
            raise StorageAway(msg)
        if found != self._expected:
            has = "has no mark" if found is None else "has another store's mark"
            msg = f"{self._inner} is not the store that Redis knows: it {has}"
            raise StorageAway(msg)

    def put(self, key: str, data: bytes | Path, *, content_type: str, metadata: Mapping[str, str] = {}) -> None:
        self.check_mark()
        self._inner.put(key, data, content_type=content_type, metadata=metadata)

    def get(self, key: str, *, limit: int | None = None) -> bytes:
        try:
            return self._inner.get(key, limit=limit)
        except ObjectNotFound:
            self.check_mark()
            raise

    def exists(self, key: str) -> bool:
        if self._inner.exists(key):
            return True
        self.check_mark()
        return False

    def delete(self, key: str) -> None:
        self.check_mark()
        self._inner.delete(key)

    def url(self, key: str, seconds: int) -> str:
        return self._inner.url(key, seconds)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        self.check_mark()
        return self._inner.list(prefix)

    def check(self, *, write: bool = True, size: int = 0) -> None:
        self.check_mark()
        self._inner.check(write=write, size=size)

    def mark(self) -> str | None:
        return self._inner.mark()

    def make_mark(self, mark: str) -> None:
        self._inner.make_mark(mark)

    def __str__(self) -> str:
        return str(self._inner)
