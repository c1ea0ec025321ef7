"""`darkroom store`: which store belongs to the jobs in Redis."""

from contextlib import closing

import typer

from darkroom.cli.options import AsJson
from darkroom.cli.screen import Screen
from darkroom.storage import open_store
from darkroom.tasks import TaskSettings
from darkroom.tasks.marks import adopt as adopt_store
from darkroom.tasks.redis_io import BlockingIO

app = typer.Typer(help="The store that belongs to the jobs in Redis.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `adopt` a name of its own while it is the only one."""


@app.command("adopt", epilog="Example: darkroom --storage-url file:///srv/new store adopt")
def adopt(*, as_json: AsJson = False) -> None:
    """Make the configured store the one that Redis knows: after a move to a new one, on purpose.

    Workers and producers with another store wait or are refused from then on. What records name is not moved.
    """
    store, screen = open_store(), Screen(as_json=as_json)
    store.check()
    with closing(BlockingIO(TaskSettings())) as io:
        adopted = io.run(adopt_store(store))
    changed = adopted.before != adopted.mark
    words = "is the store of these jobs now" if changed else "is the store of these jobs, as before"
    document = {"store": str(store), "mark": adopted.mark, "before": adopted.before, "changed": changed}
    screen.result(document | {"mark_made": adopted.made}, f"{store} {words} (mark {adopted.mark})")
