"""`darkroom gc`: what nobody needs any more, in Redis and in the store."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Annotated
from uuid import UUID

import typer

from darkroom.cli.options import AsJson
from darkroom.cli.screen import Screen, pairs
from darkroom.storage import ObjectStore, StoredObject, open_store
from darkroom.tasks import Job, JobNotFound, QueueBroken, TaskSettings
from darkroom.tasks.job import no_store
from darkroom.tasks.objects import leftovers
from darkroom.tasks.operations import get
from darkroom.tasks.redis_io import BlockingIO
from darkroom.tasks.sweeping import sweep_indexes


def gc(
    *,
    expired: Annotated[bool, typer.Option("--expired", help="Also objects of jobs whose record has expired.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which objects would be deleted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete objects that no record names, and do what no worker was there to do: expire, knock again, tidy indexes."""
    rules, store, screen = TaskSettings(), open_store(), Screen(as_json=as_json)
    io = BlockingIO(rules)
    try:
        looked_after = {} if dry_run else _look_after(io, rules)
        ids = 0 if dry_run else io.run(sweep_indexes())
        oldest = datetime.now(UTC) - timedelta(seconds=rules.record_ttl) if expired else None
        unreadable: list[str] = []
        keys = list(_unnamed(store, lambda job_id: _record(io, job_id), oldest, unreadable))
    finally:
        io.close()
    for key in keys if not dry_run else ():
        store.delete(key)
    if unreadable:
        screen.note(f"left alone, with records that cannot be read: {', '.join(unreadable)}")
    done = {"objects": keys, "index_entries": ids, "jobs": looked_after, "unreadable": unreadable, "dry_run": dry_run}
    counts = {"objects": len(keys), "index entries": ids, "jobs looked after": len(looked_after)}
    screen.result(done, pairs(counts.items()))


def _look_after(io: BlockingIO, rules: TaskSettings) -> dict[str, str]:
    """The janitor's rounds, until one finds nothing that those before did not; what was done, by job id."""
    from darkroom.worker.delivery.janitor import sweep  # loads the worker's log

    done: dict[str, str] = {}
    while (found := io.run(sweep("gc", rules))).keys() - done.keys():
        done |= found
    return {job_id: what for job_id, what in done.items() if what != "kept"}


def _record(io: BlockingIO, job_id: str) -> Job | None:
    try:
        return io.run(get(job_id, no_store))
    except JobNotFound:
        return None


def _unnamed(
    store: ObjectStore, record: Callable[[str], Job | None], before: datetime | None, unreadable: list[str]
) -> Iterator[str]:
    """Keys that no record names. Where the record is gone: those from before the moment, if one is given.

    A record outlives its job's last object by its lifetime, so that an older object cannot be of a job that goes on.
    What an unreadable record names is not known: its objects stay.
    """
    for job_id, found in groupby(store.list(""), lambda item: item.key.partition("/")[0]):
        if not _is_job(job_id):
            continue
        try:
            job = record(job_id)
        except QueueBroken:
            unreadable.append(job_id)
            continue
        if job is not None:
            yield from leftovers(job, store)
        elif before is not None:
            yield from (item.key for item in found if _older(item, before))


def _older(item: StoredObject, moment: datetime) -> bool:
    return item.modified < moment


def _is_job(name: str) -> bool:
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False
