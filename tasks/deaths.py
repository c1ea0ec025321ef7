"""A worker process that is known to have ended: its jobs are lost now, not when their leases run out."""

from collections.abc import Iterator

from darkroom.tasks.errors import QueueBroken
from darkroom.tasks.redis_io import Key, Operation, command, script
from darkroom.tasks.settings import TaskSettings

SLICE = 500  # records that are looked at in one round trip


def bury(host: str, incarnation: str, rules: TaskSettings) -> Operation[dict[str, str]]:
    """Ends the leases of the process that claimed as `host:pid:incarnation`, as if they had run out: what became of its
    jobs, by id (`queued`, `canceled`, `expired`, `failed`; `kept` where one has ended or moved meanwhile).

    Nothing is kept of who runs what but the records: claims are many, deaths are few, so these are read through.
    """
    found = yield command("ZRANGE", Key("leases"), 0, -1)
    done: dict[str, str] = {}
    for ids in _slices([job_id.decode(errors="replace") for job_id in found]):
        owners = yield [command("HGET", Key(f"job:{job_id}"), "worker", alone=True) for job_id in ids]
        mine = {job_id: owner for job_id, owner in zip(ids, owners, strict=True) if _is_of(owner, host, incarnation)}
        if mine:
            rest = (rules.max_losses, rules.record_ttl)
            replies = yield [script("lost", job_id, owner, *rest, alone=True) for job_id, owner in mine.items()]
            done.update(zip(mine, map(_said, replies), strict=True))
    return done


def _is_of(owner: bytes | QueueBroken | None, host: str, incarnation: str) -> bool:
    """The number of the process is not looked at: between it and its parent there may be a launcher."""
    if not isinstance(owner, bytes):
        return False
    found_host, _, rest = owner.decode(errors="replace").partition(":")
    return found_host == host and rest.rpartition(":")[2] == incarnation


def _said(reply: bytes | QueueBroken) -> str:
    return f"refused: {reply.message}" if isinstance(reply, QueueBroken) else reply.decode()


def _slices(ids: list[str]) -> Iterator[list[str]]:
    return (ids[start : start + SLICE] for start in range(0, len(ids), SLICE))
