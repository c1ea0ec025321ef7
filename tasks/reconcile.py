"""The reconciler: walks over all keys, and mends what records, indexes, leases and events disagree on.

Every script leaves them in agreement. A server that lost its last second, a hand that deleted keys, or a version with a
fault does not: a job that runs without a lease, or waits without a place, would never end. One script looks at a slice
and mends it at once, so that nothing under way is taken for a fault, and a million jobs hold up nobody.
"""

import json
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from darkroom.tasks.errors import QueueBroken
from darkroom.tasks.redis_io import Key, Operation, command, script

SLICE = 50  # keys, or members of a set, that one script looks at
FIRST = ("leases", "delayed", "index:running", "deadlines")  # small sets, of jobs that somebody waits for
SWEPT = "swept"  # no fault: the record has expired or was deleted since
REFUSED = "refused"  # Redis did not let it be looked at or mended
UNREADABLE = "unreadable"  # the record lacks what is needed for that; said once
REST_SECONDS = 60  # between two walks
_STALLED_SECONDS = 3600  # after which a walk that nobody goes on with is forgotten


@dataclass(frozen=True, slots=True)
class Repair:
    """What was mended, `index_missing` for example, and of which job; of keys of no job the key."""

    job_id: str
    what: str


@dataclass(frozen=True, slots=True)
class Walk:
    """How far a walk has come: through the sets that were met, the first one up to `within`, then on over the keys."""

    keys: str | None = "0"
    sets: list[str] = field(default_factory=lambda: list(FIRST))
    within: str = "0"

    @property
    def ended(self) -> bool:
        """Whether nothing is left."""
        return self.keys is None and not self.sets

    def after(self, cursor: str, met: list[str]) -> "Walk":
        """The walk behind a slice. Its next cursor is "0" where a set, or the keys, were at their end."""
        if not self.sets:
            return Walk(None if cursor == "0" else cursor, met)
        return Walk(self.keys, self.sets[1:] if cursor == "0" else self.sets, cursor)


def step(walk: Walk, record_ttl: int) -> Operation[tuple[Walk, list[Repair]]]:
    """One slice: the walk behind it, and what was mended."""
    name, cursor = (walk.sets[0], walk.within) if walk.sets else ("", walk.keys)
    following, met, flat = yield script("reconcile", record_ttl, name.encode(errors="surrogateescape"), cursor, SLICE)
    text = [part.decode(errors="replace") for part in flat]
    repairs = [Repair(*pair) for pair in zip(text[::2], text[1::2], strict=True)]
    return walk.after(following.decode(), [part.decode(errors="surrogateescape") for part in met]), repairs


def walk_all(record_ttl: int) -> Operation[Counter[str]]:
    """A whole walk at once: how often what was mended."""
    walk, done = Walk(), Counter[str]()
    while not walk.ended:
        walk, repairs = yield from step(walk, record_ttl)
        done.update(repair.what for repair in repairs)
    return done


def walk_on(record_ttl: int, seconds: float) -> Operation[list[Repair]]:
    """Goes on, for so long, with the walk that all workers share; one that has ended begins anew after a rest."""
    walk, until, repairs = (yield from _resumed()), time.monotonic() + seconds, []
    if walk is None:
        return []
    try:
        while not walk.ended and time.monotonic() < until:
            walk, found = yield from step(walk, record_ttl)
            repairs += found
    except QueueBroken:  # what was kept of it is none of ours
        yield command("DEL", Key("walk"))
        raise
    kept: list[Any] = ["", REST_SECONDS] if walk.ended else [json.dumps(asdict(walk)), _STALLED_SECONDS]
    yield command("SET", Key("walk"), kept[0], "EX", kept[1])
    return repairs


def _resumed() -> Operation[Walk | None]:
    """From where it was left; None while it rests."""
    kept = yield command("GET", Key("walk"), alone=True)
    if kept == b"":
        return None
    try:
        return Walk(**json.loads(kept))
    except (ValueError, TypeError, RecursionError):  # there is none, or it is none of ours
        return Walk()
