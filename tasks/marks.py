"""Which store belongs to this Redis: the one whose mark Redis knows. The store's side: `storage/marks.py`.

    store  hash  id: of the store's mark; made: once the mark lies in the store

Redis has the first word, so that workers that start at once agree: the first id that is written there counts, and all
of them write this one into the store. Neither is done where the records speak against the store: they name objects, and
none of them lies there.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Protocol
from uuid import uuid4

from darkroom.tasks.job import State
from darkroom.tasks.records import jobs
from darkroom.tasks.redis_io import BlockingIO, Key, Operation, command
from darkroom.tasks.results import no_store
from darkroom.tasks.settings import TaskSettings

JOBS, OBJECTS = 200, 20  # the newest ones that are looked for


class Markable(Protocol):
    """What is needed of a store; both of `darkroom.storage` have it."""

    def exists(self, key: str) -> bool:
        """Whether something lies under the key."""

    def mark(self) -> str | None:
        """The id of its mark, if it has one."""

    def make_mark(self, mark: str) -> None:
        """Gives it one."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """The mark that Redis knows now, the one that it knew before, and whether the store was given it."""

    mark: str
    before: str | None
    made: bool


def known_mark() -> Operation[str | None]:
    """The mark that Redis knows."""
    found, _ = yield from _known()
    return found


def agree(store: Markable, *, starting: bool = False) -> Operation[str | None]:
    """The mark that the store must have, given to it where that is right; None where it cannot be the store.

    `starting`: a store that lost its mark is given it again, where it holds what records name. Raises as the store.
    """
    known, made = yield from _known()
    found = store.mark()
    if known and made and (found or not starting):
        return known
    there = yield from holds(store)
    if known is None:
        if there is False:
            return None
        yield command("HSETNX", Key("store"), "id", found or uuid4().hex)
        known, made = yield from _known()
    if found is None and (there or (there is None and not made)):
        store.make_mark(str(known))
    if not made and store.mark() == known:
        yield command("HSET", Key("store"), "made", 1)
    return known


def adopt(store: Markable) -> Operation[Adopted]:
    """Makes this the store that Redis knows, whatever it knew. Raises as the store."""
    before = yield from known_mark()
    found = store.mark()
    mark = found or before or uuid4().hex
    if found is None:
        store.make_mark(mark)
    yield command("HSET", Key("store"), "id", mark, "made", 1)
    return Adopted(mark, before, found is None)


def expecting(settings: TaskSettings) -> Callable[[Markable], str | None]:
    """`agree` for those who have no connection of their own to ask Redis on; from any thread. Raises QueueError."""

    def expected(store: Markable) -> str | None:
        with closing(BlockingIO(settings)) as io:
            return io.run(agree(store))

    return expected


def _known() -> Operation[tuple[str | None, bool]]:
    found, made = yield command("HMGET", Key("store"), "id", "made")
    return (found.decode(errors="replace") if found else None), bool(made)


def holds(store: Markable) -> Operation[bool | None]:
    """Whether one of the newest objects that records name lies in the store; None where they name none.

    Raises as the store.
    """
    newest = yield from jobs(None, list(State), JOBS, None, no_store)
    keys = list(islice((key for job in newest for key in job.object_keys), OBJECTS))
    return any(map(store.exists, keys)) if keys else None
