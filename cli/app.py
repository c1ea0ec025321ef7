"""The commands together, the options that all share, and the one place where errors end."""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
import typer.main

from darkroom.cli import (
    cancel,
    dead,
    fetch,
    finetune,
    gc,
    jobs,
    loras,
    models,
    store,
    styles,
    submit,
    tenants,
    wishes,
    worker,
)
from darkroom.cli.batch import command as batch
from darkroom.cli.demo import demo
from darkroom.cli.doctor import doctor, health
from darkroom.cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, Report, help_was_shown, report
from darkroom.cli.names import normal
from darkroom.cli.options import set_environment
from darkroom.cli.replay import replay
from darkroom.cli.screen import Screen
from darkroom.storage import StorageSettings
from darkroom.tasks import TaskSettings, __version__
from darkroom.tasks.misspelt import misspelt
from darkroom.worker.settings import WorkerSettings

app = typer.Typer(
    name="darkroom",
    help="Develop images in the background: submit jobs, follow them, and run the workers that make the pictures.",
    epilog="Settings are environment variables DARKROOM_...; options win over them. Try: darkroom demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("submit", epilog=submit.EXAMPLES, context_settings={"token_normalize_func": normal})(submit.submit)
app.command("finetune", epilog=finetune.EXAMPLES)(finetune.finetune)
app.add_typer(batch.app, name="batch")
app.command("watch", epilog="Example: darkroom watch ID --json | jq .type")(jobs.watch)
app.command("status", epilog="Example: darkroom status ID --json | jq .state")(jobs.status)
app.command("fetch", epilog=fetch.EXAMPLES)(fetch.fetch)
app.command("list", epilog="Example: darkroom list --state queued --state running --tenant alice")(jobs.list_jobs)
app.command("cancel", epilog=cancel.EXAMPLES)(cancel.cancel)
app.command("save", epilog="Example: darkroom save ID")(wishes.save)
app.command("sample", epilog="Example: darkroom sample ID")(wishes.sample)
app.command("move", epilog="Example: darkroom move ID --front")(tenants.move)
app.command("pause", epilog="Example: darkroom pause sdxl")(tenants.pause)
app.command("resume", epilog="Example: darkroom resume sdxl")(tenants.resume)
app.add_typer(tenants.app, name="tenants")
app.command("delete", epilog="Example: darkroom delete ID1 ID2")(jobs.delete)
app.add_typer(dead.app, name="dead")
app.command("worker", epilog=worker.EXAMPLES)(worker.worker)
app.add_typer(models.app, name="models")
app.add_typer(loras.app, name="loras")
app.add_typer(styles.app, name="styles")
app.add_typer(store.app, name="store")
app.command("replay", epilog=replay.EXAMPLES)(replay.replay)
app.command("demo", epilog="Example: darkroom demo --output /tmp/darkroom --stay")(demo.demo)
app.command("gc", epilog="Example: darkroom gc --expired --dry-run")(gc.gc)
app.command("doctor", epilog="Example: darkroom doctor --digests")(doctor.doctor)
app.command("health", epilog="In a Dockerfile: HEALTHCHECK CMD darkroom health")(health.health)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"darkroom {__version__}")
        raise typer.Exit


@app.callback()
def everywhere(
    redis_url: Annotated[
        str | None, typer.Option("--redis-url", metavar="URL", help="Instead of DARKROOM_REDIS_URL.")
    ] = None,
    storage_url: Annotated[
        str | None, typer.Option("--storage-url", metavar="URL", help="Instead of DARKROOM_STORAGE_URL.")
    ] = None,
    show_version: Annotated[  # noqa: ARG001 - its callback does it
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """Global options become this process's environment, which is where settings, and workers it starts, look."""
    set_environment(redis_url=redis_url, storage_url=storage_url)
    for variable, near in misspelt(TaskSettings, StorageSettings, WorkerSettings):
        Screen().note(f"note: {variable} is no setting; {near} is")


def run(argv: Sequence[str]) -> int:
    """Runs one command; returns its exit code. Commands return theirs, or nothing for 0."""
    screen = Screen(as_json=wants_json(argv))
    try:
        code = typer.main.get_command(app).main(list(argv), prog_name="darkroom", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except typer.Exit as ended:
        return ended.exit_code
    except (BrokenPipeError, SystemExit) as ended:
        # typer and rich end the process themselves when nobody reads on
        if isinstance(ended, SystemExit) and not isinstance(ended.__context__, BrokenPipeError):
            raise
        return _reader_left()
    except Exception as error:  # noqa: BLE001 - the one place where errors end
        return EXIT_USAGE if help_was_shown(error) else _told(screen, error)
    return code if isinstance(code, int) else 0


def wants_json(argv: Sequence[str]) -> bool:
    """Whether errors are to be JSON: known before the options are understood, since that may fail too."""
    options = list(argv)[: list(argv).index("--")] if "--" in argv else argv
    return "--json" in options


def _told(screen: Screen, error: Exception) -> int:
    found = report(error)
    if found is None:
        traceback.print_exception(error)
        message = f"{type(error).__name__}: {error}"
        found = Report("internal_error", message, "a fault of Darkroom's: please report it", (), EXIT_FAILED)
    screen.error(found)
    return found.exit_code


def _reader_left() -> int:
    """As with `darkroom list | head`: nobody reads on, which is no fault; nor may the last flush make it one."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
