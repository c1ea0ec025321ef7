"""`darkroom dead`: jobs that were given up, and messages that were none."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Group

from darkroom.cli.errors import UsageFault
from darkroom.cli.jobs import as_document, note_unreadable
from darkroom.cli.options import AnyJobIds, AsJson, JobId, JobIds
from darkroom.cli.screen import Screen, table
from darkroom.cli.several import Done, one_by_one
from darkroom.tasks import Darkroom, JobNotFound, TaskSettings
from darkroom.tasks.dead import GarbageNote, drop_garbage, garbage
from darkroom.tasks.job import AttemptNote
from darkroom.tasks.redis_io import BlockingIO

app = typer.Typer(help="Jobs that were given up, and messages that were none.", no_args_is_help=True)

Most = Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many at most.")]


@app.command("list", epilog="Example: darkroom dead list --json")
def list_dead(*, limit: Most = 20, as_json: AsJson = False) -> None:
    """List what was given up, newest first, with the last error; and bytes in queues that were no messages."""
    screen = Screen(as_json=as_json)
    with Darkroom() as client:
        jobs = client.dead(limit)
    notes = _garbage(limit)
    document = {
        "jobs": [as_document(job) for job in jobs],
        "messages": [note.model_dump() for note in notes],
        "unreadable": jobs.unreadable,
    }
    note_unreadable(screen, jobs)
    if not jobs and not notes and not jobs.unreadable:
        screen.note("nothing was given up")
    rows = [(job.id, job.model, job.error.code if job.error else "", len(job.attempts)) for job in jobs]
    strange = [(_when(note.time), note.queue, note.bytes, note.reason) for note in notes]
    screen.result(
        document,
        Group(
            *([table("ID", "MODEL", "ERROR", "ATTEMPTS", rows=rows, spare=("ATTEMPTS", "MODEL"))] if rows else []),
            *([table("TIME", "QUEUE", "BYTES", "NO MESSAGE BECAUSE", rows=strange)] if strange else []),
        ),
    )


@app.command(epilog="Example: darkroom dead show ID")
def show(job_id: JobId, *, as_json: AsJson = False) -> None:
    """Show what went wrong with a job, attempt by attempt."""
    with Darkroom() as client:
        job = client.get(job_id)
    rows = [(a.claim, _when(a.time), a.worker, a.error.code, a.error.message) for a in job.attempts]
    shown = table("CLAIM", "ENDED", "WORKER", "ERROR", "MESSAGE", rows=rows, spare=("WORKER", "ENDED"))
    Screen(as_json=as_json).result({"id": job.id, "attempts": [_attempt(a) for a in job.attempts]}, shown)


@app.command(epilog="Example: darkroom dead retry ID")
def retry(job_ids: JobIds, *, as_json: AsJson = False) -> int:
    """Submit jobs that failed once more, as new jobs with the same seeds; asked again, it makes no further ones."""
    with Darkroom() as client:

        def retried(job_id: str) -> Done:
            new = client.retry(job_id).submitted
            before = ", submitted before: if that one failed too, it is the one to retry" if new.repeated else ""
            return Done(new.id + before, {"new_id": new.id, "repeated": new.repeated})

        return one_by_one(Screen(as_json=as_json), job_ids, retried, failed={"new_id": None})


@app.command(epilog="Example: darkroom dead drop ID, or darkroom dead drop --messages")
def drop(
    job_ids: AnyJobIds = None,
    *,
    messages: Annotated[bool, typer.Option("--messages", help="Also forget all messages that were none.")] = False,
    as_json: AsJson = False,
) -> int:
    """Take jobs off the list; their records stay until they expire."""
    if not job_ids and not messages:
        raise UsageFault("nothing to drop is named", hint="give ids of jobs, or --messages")
    with Darkroom() as client:

        def dropped(job_id: str) -> Done:
            if client.drop(job_id):
                return Done("dropped", {"dropped": True})
            return Done("not among the dead letters", {"dropped": False}, JobNotFound.exit_code)

        more = {"messages": _forgotten()} if messages else {}
        return one_by_one(Screen(as_json=as_json), job_ids or (), dropped, failed={"dropped": False}, more=more)


def _garbage(limit: int) -> list[GarbageNote]:
    io = BlockingIO(TaskSettings())
    try:
        return io.run(garbage(limit))
    finally:
        io.close()


def _forgotten() -> Done:
    io = BlockingIO(TaskSettings())
    try:
        count = io.run(drop_garbage())
    finally:
        io.close()
    return Done(f"{count} dropped", {"messages": count})


def _attempt(note: AttemptNote) -> dict[str, object]:
    return note.model_dump()


def _when(seconds: float | None) -> str:
    """A moment for people; what is none, and what no calendar has, is not known."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if seconds is not None else "?"
    except (ValueError, OverflowError, OSError):
        return "?"
