"""Hygiene by hand: places in the indexes whose record has expired.

Every key that grows is kept short where it is written; this finds what was missed, of tenants who never came back, say.
"""

from typing import Any

from darkroom.tasks.redis_io import Key, Operation, command

_PAGE = 500


def sweep_indexes() -> Operation[int]:
    """Takes ids without a record out of all indexes; how many there were."""
    cursor: Any = 0
    removed = 0
    while True:
        cursor, names = yield command("SCAN", cursor, "MATCH", Key("index:*"), "COUNT", _PAGE)
        for name in names:
            removed += yield from _sweep(name)
        if int(cursor) == 0:
            return removed


def _sweep(index: bytes) -> Operation[int]:
    start = removed = 0
    while ids := (yield command("ZRANGE", index, start, start + _PAGE - 1)):
        there = yield [command("EXISTS", Key(f"job:{member.decode(errors='replace')}")) for member in ids]
        gone = [member for member, exists in zip(ids, there, strict=True) if not exists]
        if gone:
            yield command("ZREM", index, *gone)
        removed += len(gone)
        start += len(ids) - len(gone)
    return removed
