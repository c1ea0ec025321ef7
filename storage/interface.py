"""What every store can do: bytes by key."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

#: Where a store's mark lies: no key, since those do not begin with a dot.
MARK = ".darkroom-store"

#: The longest lifetime of a link, in seconds (7 days): what S3's signature allows.
MAX_LINK_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One line of a listing: size in bytes, `modified` in UTC."""

    key: str
    size: int
    modified: datetime


class ObjectStore(Protocol):
    """Bytes by key, from any thread. Every method raises StorageError and nothing else of the store's own."""

    def put(self, key: str, data: bytes | Path, *, content_type: str, metadata: Mapping[str, str] = {}) -> None:
        """Store `data` (a Path: the file's content) under `key`, whole or not at all; what was there is replaced.

        `metadata` (ASCII) is kept where the store has a place for it. Raises OSError when `data` cannot be read.
        """

    def get(self, key: str, *, limit: int | None = None) -> bytes:
        """The bytes under `key`. Raises ObjectNotFound, and ObjectTooLarge above `limit` bytes, before reading them."""

    def exists(self, key: str) -> bool:
        """Whether something lies under `key`."""

    def delete(self, key: str) -> None:
        """Remove what lies under `key`; nothing there is fine."""

    def url(self, key: str, seconds: int) -> str:
        """A link that reads the object without credentials, for 1 s to 7 days; not checked against what exists.

        A folder's link is a `file:` URL, which never ends. Raises ValueError for another lifetime.
        """

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """The objects whose key begins with `prefix` ("": all), in the order of their keys."""

    def check(self, *, write: bool = True, size: int = 0) -> None:
        """Raise the StorageError that the next call would meet: reachable, allowed to list, and (`write`) to put.

        What is put, and taken away again, has `size` bytes.
        """

    def mark(self) -> str | None:
        """The id by which the store is known (`storage/marks.py`); None where it has none."""

    def make_mark(self, mark: str) -> None:
        """Give the store this id, whatever it had."""


def check_lifetime(seconds: int) -> None:
    """Raises ValueError unless a link may live this long."""
    if not 1 <= seconds <= MAX_LINK_SECONDS:
        msg = f"a link lives 1 to {MAX_LINK_SECONDS} seconds, not {seconds}"
        raise ValueError(msg)
