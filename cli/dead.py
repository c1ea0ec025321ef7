"""`darkroom dead`: jobs that were given up, and messages that were none."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Group

from darkroom.cli.jobs import as_document
from darkroom.cli.options import AsJson, JobId, JobIds
from darkroom.cli.screen import Screen, pairs, table
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
    document = {"jobs": [as_document(job) for job in jobs], "messages": [_note(note) for note in notes]}
    if not jobs and not notes:
        screen.note("nothing was given up")
    rows = [(job.id, job.model, job.error.code if job.error else "", len(job.attempts)) for job in jobs]
    strange = [(_when(note.time), note.queue, note.bytes, note.reason) for note in notes]
    screen.result(
        document,
        Group(
            *([table("ID", "MODEL", "ERROR", "ATTEMPTS", rows=rows)] if rows else []),
            *([table("TIME", "QUEUE", "BYTES", "NO MESSAGE BECAUSE", rows=strange)] if strange else []),
        ),
    )


@app.command(epilog="Example: darkroom dead show ID")
def show(job_id: JobId, *, as_json: AsJson = False) -> None:
    """Show what went wrong with a job, attempt by attempt."""
    with Darkroom() as client:
        job = client.get(job_id)
    rows = [(a.claim, _when(a.time), a.worker, a.error.code, a.error.message) for a in job.attempts]
    shown = table("CLAIM", "ENDED", "WORKER", "ERROR", "MESSAGE", rows=rows)
    Screen(as_json=as_json).result({"id": job.id, "attempts": [_attempt(a) for a in job.attempts]}, shown)


@app.command(epilog="Example: darkroom dead retry ID")
def retry(job_ids: JobIds, *, as_json: AsJson = False) -> None:
    """Submit jobs that were given up once more, as new jobs with the same seeds."""
    with Darkroom() as client:
        again = {job_id: client.retry(job_id).id for job_id in job_ids}
    results = [{"id": old, "new_id": new} for old, new in again.items()]
    Screen(as_json=as_json).result({"results": results}, pairs(again.items()))


@app.command(epilog="Example: darkroom dead drop ID, or darkroom dead drop --messages")
def drop(
    job_ids: Annotated[list[str] | None, typer.Argument(metavar="ID...")] = None,
    *,
    messages: Annotated[bool, typer.Option("--messages", help="Also forget all messages that were none.")] = False,
    as_json: AsJson = False,
) -> int:
    """Take jobs off the list; their records stay until they expire."""
    with Darkroom() as client:
        dropped = {job_id: client.drop(job_id) for job_id in job_ids or []}
    results = [{"id": job_id, "dropped": done} for job_id, done in dropped.items()]
    shown = {job_id: "dropped" if done else "not among the dead letters" for job_id, done in dropped.items()}
    if messages:
        shown["messages"] = f"{_forget_garbage()} dropped"
    Screen(as_json=as_json).result({"results": results}, pairs(shown.items()))
    return 0 if all(dropped.values()) else JobNotFound.exit_code


def _garbage(limit: int) -> list[GarbageNote]:
    io = BlockingIO(TaskSettings())
    try:
        return io.run(garbage(limit))
    finally:
        io.close()


def _forget_garbage() -> int:
    io = BlockingIO(TaskSettings())
    try:
        return io.run(drop_garbage())
    finally:
        io.close()


def _note(note: GarbageNote) -> dict[str, object]:
    return {name: getattr(note, name) for name in note.__slots__}


def _attempt(note: AttemptNote) -> dict[str, object]:
    return note.model_dump()


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
