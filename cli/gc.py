"""`darkroom gc`: what nobody needs any more, in Redis and in the store."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from darkroom.cli.options import AsJson
from darkroom.cli.screen import Screen, pairs
from darkroom.cli.unnamed import Search
from darkroom.storage import open_store
from darkroom.tasks import TaskSettings
from darkroom.tasks.marks import expecting
from darkroom.tasks.reconcile import walk_all
from darkroom.tasks.records import get_each
from darkroom.tasks.redis_io import BlockingIO
from darkroom.tasks.results import no_store


def gc(
    *,
    expired: Annotated[bool, typer.Option("--expired", help="Also objects of jobs whose record has expired.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which objects would be deleted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete objects that no record names, and do what no worker was there to do: expire, knock again, tidy indexes."""
    rules, screen = TaskSettings(), Screen(as_json=as_json)
    store = open_store(expected=expecting(rules))
    io = BlockingIO(rules)
    keys: list[str] = []
    try:
        looked_after = {} if dry_run else _look_after(io, rules)
        repairs = {} if dry_run else dict(io.run(walk_all(rules.record_ttl)))
        oldest = datetime.now(UTC) - timedelta(seconds=rules.record_ttl) if expired else None
        with _counter(screen, "objects looked at") as count:
            search = Search(lambda job_ids: io.run(get_each(job_ids, no_store)), oldest, count)
            for key in search.unnamed(store):
                if not dry_run:
                    store.delete(key)
                keys.append(key)
    finally:
        io.close()
    unreadable = list(search.unreadable)
    if unreadable:
        screen.note(f"left alone, with records that cannot be read: {', '.join(unreadable)}")
    done = {"objects": keys, "repairs": repairs, "jobs": looked_after, "unreadable": unreadable, "dry_run": dry_run}
    counts = {"objects": len(keys), "jobs looked after": len(looked_after)} | repairs
    screen.result(done, pairs(counts.items()))


def _look_after(io: BlockingIO, rules: TaskSettings) -> dict[str, str]:
    """The janitor's rounds, until one finds nothing that those before did not; what was done, by job id."""
    from darkroom.worker.delivery.janitor import sweep  # with its log
    from darkroom.worker.process.logs import configure_logs

    configure_logs("auto", "warning")
    done: dict[str, str] = {}
    while (found := io.run(sweep("gc", rules)) or {}).keys() - done.keys():
        done |= found
    return {job_id: what for job_id, what in done.items() if what != "kept"}


@contextmanager
def _counter(screen: Screen, what: str) -> Iterator[Callable[[int], None]]:
    """Counts on the terminal, if there is one, for as long as the context is open; how many there are is not known."""
    words = TextColumn("{task.completed:,.0f} " + what, markup=False)
    bar = Progress(words, TimeElapsedColumn(), console=screen.err, disable=not screen.err.is_terminal, transient=True)
    with bar:
        task = bar.add_task("", total=None)
        yield lambda number: bar.advance(task, number)
